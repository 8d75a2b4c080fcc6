"""What an operator can ask about mirrors: bring one up to date now, how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from spinrt.errors import NotFound, SpinError
from spinrt.mail.config import Config
from spinrt.mail.control import Handler
from spinrt.mail.mirror_server import MirrorServer, own_identity
from spinrt.mail.mirroring import Mirroring
from spinrt.mail.snapshotting import Snapshotting
from spinrt.mail.store.store import Store


def make_mirroring(config: Config, store: Store, snapshotting: Snapshotting) -> Mirroring:
    """Return the mirroring of a store to the targets of a configuration; it is not started.

    Snapshots that a mirror builds on stay from now on.
    """
    mirroring = Mirroring(
        config.mirror.targets,
        config.data_directory,
        partial(own_identity, config),
        snapshotting.take,
        lambda: store.snapshots.pages,
        store.log,
        snapshotting.expire,
    )
    snapshotting.pinned = mirroring.pinned
    return mirroring


def mirror_handlers(mirroring: Mirroring, server: MirrorServer | None = None) -> Mapping[str, Handler]:
    """Operations for the control socket."""

    async def push(arguments: Mapping[str, Any]) -> Any:
        wanted = arguments.get("target")
        names = list(mirroring.records) if wanted is None else [str(wanted)]
        if not names:
            raise NotFound("mirror push: the configuration has no mirror.targets")
        for name in names:
            try:
                await mirroring.push(name)
            except (SpinError, OSError):
                if wanted is not None:  # of all, each target's record says so, and the others have their turn
                    raise
        return [one for one in mirroring.describe() if one["target"] in names]

    async def status(arguments: Mapping[str, Any]) -> Any:
        return {"targets": mirroring.describe(), "sources": [] if server is None else server.describe()}

    return {"mirror.push": push, "mirror.status": status}
