"""Repair of a data directory from a mirror of it: what ``spinrt fsck --repair --from`` does with what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from spinrt.errors import NotFound
from spinrt.mail.config import Config
from spinrt.mail.config_mirror import MirrorTarget
from spinrt.mail.mirror_server import own_identity
from spinrt.mail.mirroring import carry
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.witness import covered_position
from spinrt.storage.datadir import PAGES_NAME
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import is_mirror
from spinrt.storage.mirror.fetch import Fetcher, Repaired
from spinrt.storage.mirror.frames import StoredBody
from spinrt.storage.mirror.link import Identity
from spinrt.storage.mirror.mend import LogMender
from spinrt.storage.pages import LocalPages


def find_mirror(config: Config | None, named: str) -> MirrorTarget:
    """Return the mirror that an operator names: one of ``mirror.targets``, or the directory of one.

    Raises:
        NotFound: It is neither.
    """
    if config is not None and named in config.mirror.targets:
        return config.mirror.targets[named]
    if is_mirror(Path(named)):
        return MirrorTarget(directory=Path(named))
    known = ", ".join(sorted(config.mirror.targets)) if config is not None else ""
    raise NotFound(
        f"mirror {named!r}: is neither one of mirror.targets nor the directory of a mirror",
        hint=f"there are: {known or 'none'}",
    )


def repair_from(
    target: MirrorTarget,
    identity: Callable[[], Identity],
    data_directory: Path,
    *,
    digests: Iterable[bytes] = (),
    positions: Iterable[int] = (),
    missing: Iterable[int] = (),
) -> Repaired:
    """Fetch damaged pages by digest and the damaged bodies of records, and put them right, durably.

    Pages are stored once more, bodies written over where they lie. Nobody may have the data directory open.

    Args:
        target: The mirror; see `find_mirror`.
        identity: This side's certificate, for a mirror elsewhere; see `repair_identity`.
        data_directory: What is damaged.
        digests: Of pages that are damaged or missing.
        positions: Log positions of records whose bodies are damaged.
        missing: Names of bodies that are in no record any more; they are appended, so the log must be sound.

    Returns:
        What was put right, bodies by name; and what could not be: digests, and positions or names of records that the
        mirror has not, or whose headers are damaged.

    Raises:
        PeerFailed: The mirror cannot be reached.
        SpinError: It refused, or what came is not what was asked for: nothing of that was stored.
    """
    mender = LogMender(data_directory / "log", positions)
    pages = LocalPages.open(data_directory / PAGES_NAME)
    try:
        fetcher = Fetcher(digests, mender.names, pages, mender.mend)
        asyncio.run(carry(fetcher, target, identity))
        repaired = fetcher.repaired
        repaired.absent += mender.hopeless
        if names := list(missing):
            more = _append_missing(target, identity, data_directory, pages, names)
            repaired.bodies += more.bodies
            repaired.absent += more.absent
    finally:
        pages.close()
    return repaired


def _append_missing(
    target: MirrorTarget, identity: Callable[[], Identity], data_directory: Path, pages: LocalPages, names: list[int]
) -> Repaired:
    witness = partial(covered_position, data_directory)
    log = Log.open(data_directory / "log", opaque_kinds=OPAQUE_KINDS, witness=witness)
    try:

        def take(name: int, body: StoredBody) -> None:
            log.append_carried(name, body.kind, body.time_ns, body.stored)

        fetcher = Fetcher([], names, pages, take)
        asyncio.run(carry(fetcher, target, identity))
        log.sync()
    finally:
        log.close()
    return fetcher.repaired


def repair_identity(config: Config) -> Callable[[], Identity]:
    """What this side shows to a mirror elsewhere."""
    return partial(own_identity, config)
