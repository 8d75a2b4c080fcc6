"""Have an operation carried out, by the server that runs or, when none runs, here: the same handler either way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from spinrt.errors import NotFound
from spinrt.mail.config import Config
from spinrt.mail.control import Handler, NoServer, request
from spinrt.mail.mirror_operations import make_mirroring, mirror_handlers
from spinrt.mail.mirroring import recorded_pins
from spinrt.mail.operations import store_handlers
from spinrt.mail.snapshot_operations import snapshot_handlers
from spinrt.mail.snapshotting import Snapshotting
from spinrt.mail.store.store import Store
from spinrt.storage.datadir import FORMAT_NAME


def ask(config: Config, operation: str, **arguments: Any) -> Any:
    """Carry out an operation, in the server when one runs, else here; return its result.

    Raises:
        NotFound: There is no data directory yet.
        SpinError: What the operation raised; DataLocked when a server that does not answer holds the data directory.
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
        return await _handlers(config, store, operation)[operation](arguments)
    finally:
        await store.close()


def _handlers(config: Config, store: Store, operation: str) -> Mapping[str, Handler]:
    """Those that need no server, of the family that the operation is of."""
    family = operation.partition(".")[0]
    if family == "snapshot":
        pins = partial(recorded_pins, config.data_directory, config.mirror.targets)
        return snapshot_handlers(Snapshotting(config, store, pins), store)
    if family == "mirror":
        return mirror_handlers(make_mirroring(config, store, Snapshotting(config, store)))
    return store_handlers(store, config.data_directory)
