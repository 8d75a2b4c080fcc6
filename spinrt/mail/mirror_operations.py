"""What an operator can ask about mirrors: bring one up to date now, how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from spinrt.errors import NotFound
from spinrt.mail.config import Config
from spinrt.mail.control import Handler, NoServer, request
from spinrt.mail.mirror_server import MirrorServer, own_identity
from spinrt.mail.mirroring import Mirroring
from spinrt.mail.snapshotting import Snapshotting
from spinrt.mail.store.store import Store
from spinrt.storage.datadir import FORMAT_NAME


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
            await mirroring.push(name)
        return [one for one in mirroring.describe() if one["target"] in names]

    async def status(arguments: Mapping[str, Any]) -> Any:
        return {"targets": mirroring.describe(), "sources": [] if server is None else server.describe()}

    return {"mirror.push": push, "mirror.status": status}


def ask_mirrors(config: Config, operation: str, **arguments: Any) -> Any:
    """Carry out an operation, in the server when one runs, else here.

    Raises:
        NotFound: There is no data directory yet.
        SpinError: What the operation raised.
    """
    try:
        return request(config.data_directory, operation, arguments)
    except NoServer:
        return asyncio.run(_do_here(config, operation, arguments))


async def _do_here(config: Config, operation: str, arguments: Mapping[str, Any]) -> Any:
    if not (config.data_directory / FORMAT_NAME).exists():
        raise NotFound(f"data directory {config.data_directory}: not there yet", hint="`spinrt serve` makes it")
    store = Store.open(config.data_directory)
    try:
        mirroring = make_mirroring(config, store, Snapshotting(config, store))
        return await mirror_handlers(mirroring)[operation](arguments)
    finally:
        await store.close()
