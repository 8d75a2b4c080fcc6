"""Addresses of SMTP paths: what is read, what is refused, how they are compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import AddressMalformed
from spinrt.mail.address import Address, normalise_domain, parse_address, parse_path, quote_local


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("<a@x.test>", "a", "x.test"),
        ("<A.b-c_d!#$%&'*+/=?^`{|}~@X.Test>", "A.b-c_d!#$%&'*+/=?^`{|}~", "X.Test"),
        ('<"a b"@x.test>', "a b", "x.test"),
        ('<"a\\"b\\\\c"@x.test>', 'a"b\\c', "x.test"),
        ('<"plain"@x.test>', "plain", "x.test"),
        ('<"a@b>c"@x.test>', "a@b>c", "x.test"),
        ('<""@x.test>', "", "x.test"),
        ("<@relay.test,@other.test:a@x.test>", "a", "x.test"),
        ("<a@[192.0.2.1]>", "a", "[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]"),
        ("<a@[tag-1:anything/else]>", "a", "[tag-1:anything/else]"),
        ("<a@under_score.test>", "a", "under_score.test"),
        ("<a@localhost>", "a", "localhost"),
        ("<ä.ö@bücher.test>", "ä.ö", "bücher.test"),
        ('<"ä ö"@x.test>', "ä ö", "x.test"),
        ("<Postmaster>", "Postmaster", ""),
        (f"<{'a' * 64}@x.test>", "a" * 64, "x.test"),
        (f"<a@{'.'.join(['b' * 63] * 3)}.{'c' * 63}>", "a", f"{'.'.join(['b' * 63] * 3)}.{'c' * 63}"),
    ],
)
def test_path_is_read(text: str, local: str, domain: str) -> None:
    """Address and rest."""
    assert parse_path(f"{text} SIZE=1") == (Address(local, domain), " SIZE=1")


@pytest.mark.parametrize(
    "text",
    [
        "", "<>", "a@x.test", "<a@x.test", "<a>", "<a@>", "<@x.test>", "<a b@x.test>", "<a@x test>", "<a..b@x.test>",
        "<.a@x.test>", "<a.@x.test>", "<a@x..test>", "<a@.x>", "<a@x.>", "<a@-x>", "<a@x->", "<a@x@y>", "<a@@x>",
        '<"a"b@x.test>', '<"a@x.test>', '<"a\r\n"@x.test>', "<a@[192.0.2]>", "<a@[IPv6:192.0.2.1]>", "<a@[tag:]>",
        "<a@[]>", "<a@[192.0.2.1>", "<a\x00@x.test>", "<a\u0085@x.test>", "<a@x\x7f>", "<<a@x.test>>", "<(c)a@x.test>",
        f"<{'a' * 65}@x.test>", f"<{'ä' * 33}@x.test>", f"<a@{'b' * 64}.test>", f"<a@{'b.' * 127}bc>",
    ],
)  # fmt: skip
def test_path_is_refused(text: str) -> None:
    """What RFC 5321 and its limits do not allow."""
    assert parse_path(text) is None


def test_local_part_alone() -> None:
    """Only where the caller allows it."""
    assert parse_path("<user>", domainless=True) == (Address("user", ""), "")
    assert str(Address("user", "")) == "user"


@pytest.mark.parametrize("text", ["", "a", "a@", "a@x.test>", "a@x.test x", "<a@x.test>", "postmaster", "a@x\r\n"])
def test_address_of_configuration_is_refused(text: str) -> None:
    """One clear line; a domain is needed."""
    with pytest.raises(AddressMalformed, match=r"^address "):
        parse_address(text)


@pytest.mark.parametrize(
    ("local", "user", "detail"),
    [("a", "a", None), ("a+b", "a", "b"), ("a+b+c", "a", "b+c"), ("a+", "a", ""), ("+a", "+a", None), ("+", "+", None)],
)
def test_detail(local: str, user: str, detail: str | None) -> None:
    """Split at the first plus, when a name stands in front of it."""
    address = Address(local, "x.test")
    assert (address.user, address.detail) == (user, detail)


def test_normalised_forms_are_equal() -> None:
    """Case, composition and A-labels do not make a difference."""
    assert Address("A\u0308b", "B\u00dcCHER.test").normalised() == Address("\u00e4B", "xn--bcher-kva.TEST").normalised()
    assert normalise_domain("a..\u00e4") == "a..\u00e4"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30))
def test_written_address_is_read_back(local: str) -> None:
    """Whatever printable characters a local part holds, quoting carries them."""
    address = Address(local, "x.test")
    if len(quote_local(local)) <= 64:
        assert parse_address(str(address)) == address


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No other exception, and what is read is read again the same."""
    found = parse_path(text)
    if found is not None and found[0].domain:
        assert parse_address(str(found[0])) == found[0]
