"""Maps of extensions in memory and in the log, when records are lost on the way."""

from __future__ import annotations

from spinrt.host.kv import KvEffect, KvSpaces
from spinrt.mail.host.ledger import KvLedger, kv_writes
from spinrt.mail.store.model import KvWrite


def test_a_lost_record_takes_its_writes_back_and_no_others() -> None:
    """Memory goes back to what is stored, with the writes that are still on their way on top, in order."""
    stored = {"a": b"0", "b": b"0"}
    spaces = KvSpaces(lambda name: dict(stored))
    space = spaces.space("guest")
    ledger = KvLedger(spaces, lambda name: dict(stored))

    def write(*pairs: tuple[str, bytes | None]) -> int:
        effects = tuple(KvEffect(space, key, value) for key, value in pairs)
        for effect in effects:
            effect.apply()
        return ledger.begin(effects)

    lost = write(("a", b"lost"), ("c", b"lost"), ("b", None))
    kept = write(("a", b"1"))
    last = write(("a", b"2"), ("d", b"2"))
    assert space.values == {"a": b"2", "c": b"lost", "d": b"2"}

    ledger.end(lost, stored=False)
    assert space.values == {"a": b"2", "b": b"0", "d": b"2"}
    stored["a"] = b"1"
    ledger.end(kept, stored=True)
    ledger.end(last, stored=False)
    assert space.values == stored
    assert space.used_bytes == 4


def test_what_was_written_while_loading_is_found() -> None:
    """The difference between memory and store is what must be stored, deletions included."""
    spaces = KvSpaces(lambda name: {"old": b"1", "same": b"2"})
    space = spaces.space("guest")
    KvEffect(space, "old", None).apply()
    KvEffect(space, "new", b"3").apply()
    ledger = KvLedger(spaces, lambda name: {"old": b"1", "same": b"2"})
    assert ledger.unstored(["guest"]) == (KvWrite("guest", "new", b"3"), KvWrite("guest", "old", None))


def test_of_several_writes_to_a_key_the_last_is_stored() -> None:
    """One write for each key, with its last value."""
    space = KvSpaces().space("guest")
    effects = [KvEffect(space, "a", b"1"), KvEffect(space, "b", b"1"), KvEffect(space, "a", None)]
    assert kv_writes(effects) == (KvWrite("guest", "a", None), KvWrite("guest", "b", b"1"))
