"""Reading everything beside whoever uses it, to find damage while a second copy still has what is damaged.

Unlike `spinrt fsck` this looks at bytes alone: records of the log, entries of packs. It takes no lock that others wait
for, changes nothing, and what is being written meanwhile is no damage. One pass is one walk; `advance` decides how
fast: it may wait, and whoever wants the pass to end raises in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from spinrt.errors import CorruptRecord, NotFound
from spinrt.storage.device import Device
from spinrt.storage.fsck.finding import Advance, Finding, Severity, damage
from spinrt.storage.fsck.log import LogCheck
from spinrt.storage.fsck.pages import FROM_MIRROR
from spinrt.storage.pack import Entry
from spinrt.storage.pages import LocalPages


def scrub_log(device: Device, advance: Advance) -> Iterator[Finding]:
    """Yield the damage in the segments on a device; a torn end is none. Raises OSError."""
    for finding in LogCheck(device, advance=advance).findings():
        if finding.severity is Severity.DAMAGE:
            yield finding


def scrub_pages(store: LocalPages, advance: Advance) -> Iterator[Finding]:
    """Yield the pages of a store whose entries are damaged. Raises StorageError."""
    for number, name in store.packs():
        for found in store.walk_pack(number):
            length = found.header.entry_bytes if isinstance(found, Entry) else found.length
            if not (isinstance(found, Entry) and found.whole):
                for digest, offset in store.pages_between(number, found.offset, found.offset + length):
                    yield from _look_again(store, f"pages/{name}", digest, offset)
            advance(length)


def _look_again(store: LocalPages, place: str, digest: bytes, offset: int) -> Iterator[Finding]:
    """The table says that a page is here, where nothing good is: unless it was moved since, it is damaged."""
    try:
        store.get(digest)
    except CorruptRecord as error:
        yield damage(place, offset, f"page {digest.hex()}", str(error).rpartition(": ")[2], FROM_MIRROR)
    except NotFound:
        return
