"""Names of mailboxes and flags: what is allowed and how it is written."""

from __future__ import annotations

import pytest

from spinrt.errors import UsageError
from spinrt.mail.store.flags import check_flags, pack_flags, unpack_flags
from spinrt.mail.store.names import canonical_name, check_user, parents


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("inbox", "INBOX"),
        ("InBoX/lists/A", "INBOX/lists/A"),
        ("Archive/inbox", "Archive/inbox"),
        ("inboxes", "inboxes"),
        ("Entwürfe/日本語 x", "Entwürfe/日本語 x"),
        ("a" * 255, "a" * 255),
        ("\u0131nbox", "\u0131nbox"),
        ("\u0131nbox/lists", "\u0131nbox/lists"),
    ],
)
def test_name_is_made_canonical(name: str, expected: str) -> None:
    """INBOX in any case of ASCII letters, as the first component only; everything else as given."""
    assert canonical_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        *["", "/", "a/", "/a", "a//b", "a\nb", "a\x00", "a\x7f", "a\x85", "a*", "%", "a" * 256, "ü" * 128, "\ud800"],
        "/".join(["abcdefgh"] * 112),
    ],
)
def test_bad_name_is_refused(name: str) -> None:
    """Empty parts, control characters, wildcards, lone surrogates, too long in part or whole."""
    with pytest.raises(UsageError):
        canonical_name(name)


@pytest.mark.parametrize("user", ["", "a\nb", "x" * 321, "\udfff"])
def test_bad_account_name_is_refused(user: str) -> None:
    """As names of mailboxes, less strict."""
    with pytest.raises(UsageError):
        check_user(user)


def test_parents_come_from_the_top() -> None:
    """All names above, none for a name at the top."""
    assert parents("a/b/c") == ["a", "a/b"]
    assert parents("a") == []


def test_flags_are_canonical_and_recent_is_never_kept() -> None:
    """System flags without case, keywords as given, sorted, once."""
    packed = pack_flags(("\\SEEN", "zeta", "$Label", "\\recent", "zeta", "\\deleted"))
    assert unpack_flags(*packed) == {"\\Seen", "\\Deleted", "$Label", "zeta"}
    assert packed[1] == "$Label zeta"


@pytest.mark.parametrize("flag", ["", "a b", "\\Unknown", "a(", 'a"', "ü", "a\n", "x" * 101, "a]", "%"])
def test_bad_flag_is_refused(flag: str) -> None:
    """Neither a system flag nor an atom."""
    with pytest.raises(UsageError):
        check_flags([flag])
