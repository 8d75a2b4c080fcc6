"""The key-value map: own writes are seen at once, others see them when the call succeeded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import Call
from spinrt.host.kv import KvInterface, KvSpaces
from spinrt.runtime.capability import Grant
from spinrt.sandbox.types import Err, Ok

KV = "spinrt:kv/store@1.0.0"


def view(spaces: KvSpaces, name: str, **attenuations: Any) -> Any:
    """The four closures of one domain."""
    interface = KvInterface(spaces)
    domain: Any = SimpleNamespace(name=name)
    grant = Grant(KV, (), attenuations)
    return SimpleNamespace(
        **{function: interface.bind(function, grant, domain) for function in ("get", "set", "delete", "keys")}
    )


def commit(call: Call) -> None:
    for effect in call.journal.effects:
        effect.apply()


def test_own_writes_are_seen_before_commit_and_by_nobody_else() -> None:
    """A call reads what it wrote; another call reads the old value until the first is committed."""
    spaces = KvSpaces()
    mine = view(spaces, "one")
    call, other = Call(), Call()
    assert mine.set(call, "key", b"1") == Ok()
    assert (mine.get(call, "key"), mine.get(other, "key")) == (b"1", None)
    commit(call)
    assert mine.get(other, "key") == b"1"


def test_name_spaces_do_not_meet() -> None:
    """Another extension's keys are not there."""
    spaces = KvSpaces()
    call = Call()
    view(spaces, "one").set(call, "key", b"1")
    commit(call)
    other = view(spaces, "two")
    assert other.get(Call(), "key") is None
    assert other.keys(Call(), "", None) == []
    assert other.delete(Call(), "key") is False


def test_room_is_bounded_over_pending_writes_too() -> None:
    """What a call has promised counts; shrinking and deleting give room back."""
    small = view(KvSpaces(), "one", bytes_max=10)
    call = Call()
    assert small.set(call, "a", b"12345") == Ok()
    assert small.set(call, "b", b"12345") == Err("full")
    assert small.set(call, "a", b"1") == Ok()
    assert small.set(call, "b", b"12345") == Ok()
    assert small.delete(call, "b")
    commit(call)
    assert small.set(Call(), "c", b"1234567") == Ok()


def test_malformed_keys_and_values_are_refused() -> None:
    """Empty and long keys, and long values."""
    mine = view(KvSpaces(), "one")
    for key, value in (("", b""), ("k" * 257, b""), ("k", bytes(65_537))):
        assert mine.set(Call(), key, value) == Err("malformed")


def test_stored_values_are_loaded_once() -> None:
    """A space begins with what was stored."""
    loads: list[str] = []

    def load(space: str) -> dict[str, bytes]:
        loads.append(space)
        return {"old": b"value"}

    spaces = KvSpaces(load)
    assert view(spaces, "one").get(Call(), "old") == b"value"
    assert view(spaces, "one").keys(Call(), "o", None) == ["old"]
    assert loads == ["one"]


operations = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "commit", "drop"]),
        st.sampled_from(["a", "b", "ä", "ab"]),
        st.binary(max_size=3),
    )
)


@given(operations)
def test_agrees_with_two_dictionaries(program: list[tuple[str, str, bytes]]) -> None:
    """Against a committed dictionary and a pending copy of it, every read agrees after every step."""
    mine = view(KvSpaces(), "one")
    call = Call()
    committed: dict[str, bytes] = {}
    pending: dict[str, bytes] = {}
    for operation, key, value in program:
        if operation == "set":
            mine.set(call, key, value)
            pending[key] = value
        elif operation == "delete":
            assert mine.delete(call, key) == (pending.pop(key, None) is not None)
        else:
            if operation == "commit":
                commit(call)
                committed = dict(pending)
            call, pending = Call(), dict(committed)
        assert {name: mine.get(call, name) for name in pending} == pending
        assert mine.keys(call, "", None) == sorted(pending, key=str.encode)
        assert mine.keys(Call(), "", "a") == sorted(
            (name for name in committed if name.encode() > b"a"), key=str.encode
        )
