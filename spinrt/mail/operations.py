"""What an operator can ask of a mail system: its queue, a backup, accounts and extensions anew, what extensions hold.

Each operation is a handler for the control socket; `spinrt.mail.asking` has it carried out.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from spinrt.errors import NotFound, StateError, StorageError, UsageError
from spinrt.mail import config as configuration
from spinrt.mail.accounts import Accounts, Directory
from spinrt.mail.config import Config
from spinrt.mail.control import Handler
from spinrt.mail.reload import Reloaded
from spinrt.mail.store.model import QueueEntry, QueueState, QueueUpdate
from spinrt.mail.store.store import Store
from spinrt.runtime.inspect import add_faults, describe, fault_reports
from spinrt.runtime.profile import Recording
from spinrt.runtime.runtime import Runtime

QUEUE_ACTIONS: Mapping[str, tuple[frozenset[QueueState], QueueState]] = {
    "hold": (frozenset({QueueState.WAITING}), QueueState.HELD),
    "release": (frozenset({QueueState.HELD}), QueueState.WAITING),
    "retry": (frozenset({QueueState.WAITING, QueueState.FAILED}), QueueState.WAITING),
    "drop": (frozenset({QueueState.WAITING, QueueState.HELD, QueueState.FAILED}), QueueState.DROPPED),
}
"""Action → states that it applies to, state that it leads to."""
TLS_NAME = "tls"
PROFILE_SECONDS_MAX = 600
OPEN_STATES = (QueueState.WAITING, QueueState.HELD, QueueState.FAILED)
"""States that the operator may have to do something about."""


ReloadExtensions: TypeAlias = Callable[[Config], Awaitable[Reloaded]]
"""Brings the extensions that are loaded to what a configuration says; see `spinrt.mail.reload`."""


def server_handlers(
    store: Store, accounts: Accounts, config: Config, reload_extensions: ReloadExtensions | None = None
) -> Mapping[str, Handler]:
    """Every operation of a running server; ``extensions.reload`` if there is somebody to do it."""

    async def reload_accounts(arguments: Mapping[str, Any]) -> Any:
        fresh = configuration.load(config.file, config.shown)
        for name in fresh.accounts:
            await store.ensure_account(name)
        accounts.replace(Directory(fresh.accounts, fresh.domains, fresh.postmaster))
        return {"accounts": len(fresh.accounts)}

    handlers: dict[str, Handler] = {
        **store_handlers(store, config.data_directory),
        "accounts.reload": reload_accounts,
    }
    if reload_extensions is not None:
        reload = reload_extensions

        async def extensions_reload(arguments: Mapping[str, Any]) -> Any:
            return asdict(await reload(configuration.load(config.file, config.shown)))

        handlers["extensions.reload"] = extensions_reload
    return handlers


def runtime_handlers(runtime: Runtime) -> Mapping[str, Handler]:
    """Operations about the extensions of a running server."""

    async def inspect(arguments: Mapping[str, Any]) -> Any:
        description, reports = describe(runtime, faults=False), fault_reports(runtime)
        return await asyncio.to_thread(add_faults, description, reports)  # modules are read: the loop does not wait

    async def profile(arguments: Mapping[str, Any]) -> Any:
        seconds = _profile_seconds(arguments.get("seconds"))
        with Recording(runtime) as recording:
            await asyncio.sleep(seconds)
        return {"profile": recording.finish().decode(), "samples": recording.samples}

    return {"inspect": inspect, "profile": profile}


def _profile_seconds(found: object) -> float:
    if not isinstance(found, int | float) or not 0 < found <= PROFILE_SECONDS_MAX:
        raise UsageError(
            f"profile: found {found!r:.80} seconds, expected more than 0 and at most {PROFILE_SECONDS_MAX}"
        )
    return float(found)


def store_handlers(store: Store, data_directory: Path) -> Mapping[str, Handler]:
    """Operations that need the store and its directory alone."""

    async def queue_list(arguments: Mapping[str, Any]) -> Any:
        states = OPEN_STATES if not arguments.get("all") else None
        return [_entry_as_json(entry) for entry in store.queue(states)]

    async def queue_change(arguments: Mapping[str, Any]) -> Any:
        return await change_queue(store, str(arguments.get("action")), _ids(arguments.get("ids")))

    async def backup(arguments: Mapping[str, Any]) -> Any:
        target = Path(str(arguments.get("target", "")))
        if not target.is_absolute():  # the server's working directory is not the client's
            raise UsageError(f"backup: found {str(target)!r}, expected an absolute path")
        log_bytes = await store.backup(target)
        await asyncio.to_thread(_copy_certificate, data_directory, target)
        return {"target": str(target), "log_bytes": log_bytes}

    return {"queue.list": queue_list, "queue.change": queue_change, "backup": backup}


def _copy_certificate(data_directory: Path, target: Path) -> None:
    """Copy the self-signed certificate, if there is one: clients that pinned it know the restored server again."""
    if not (data_directory / TLS_NAME).is_dir():
        return
    try:
        shutil.copytree(data_directory / TLS_NAME, target / TLS_NAME)  # modes are kept: the key stays private
    except OSError as error:
        raise StorageError(
            f"backup to {target}: the store is copied, {TLS_NAME}/ is not: {error}", hint="copy it by hand"
        ) from error


async def change_queue(store: Store, action: str, ids: list[int]) -> list[int]:
    """Hold, release, retry or drop outbound messages, all or none; return the ids that changed. No ids: all that fit.

    Raises:
        NotFound: There is no message of one of the ids.
        StateError: One is in a state that the action does not apply to.
    """
    if action not in QUEUE_ACTIONS:
        raise UsageError(f"queue: unknown action {action!r}, expected one of {', '.join(QUEUE_ACTIONS)}")
    fitting, _ = QUEUE_ACTIONS[action]
    entries = [_checked(store.queue_entry(id_), id_, action) for id_ in ids] if ids else store.queue(fitting)
    await asyncio.gather(*(store.submit(_update(entry, action)) for entry in entries))
    return [entry.queue_id for entry in entries]


def _checked(entry: QueueEntry | None, queue_id: int, action: str) -> QueueEntry:
    if entry is None:
        raise NotFound(f"queue entry {queue_id}: does not exist", hint="`spinrt queue list --all` shows all")
    fitting, _ = QUEUE_ACTIONS[action]
    if entry.state not in fitting:
        expected = " or ".join(sorted(state.value for state in fitting))
        raise StateError(f"queue entry {queue_id}: {action}: it is {entry.state.value}, expected {expected}")
    return entry


def _update(entry: QueueEntry, action: str) -> QueueUpdate:
    """Attempts are kept, so that the back-off goes on where it was; what is released or retried is due at once."""
    _, state = QUEUE_ACTIONS[action]
    next_s = int(time.time()) if state is QueueState.WAITING else entry.next_s
    return QueueUpdate(entry.queue_id, state, entry.attempts, next_s, entry.note)


def _ids(found: Any) -> list[int]:
    if not isinstance(found, list) or not all(type(id_) is int for id_ in found):
        raise UsageError("queue: found no list of ids")
    return list(dict.fromkeys(found))


def _entry_as_json(entry: QueueEntry) -> dict[str, Any]:
    outbound = entry.outbound
    return {
        "id": entry.queue_id,
        "state": entry.state.value,
        "kind": outbound.kind,
        "extension": outbound.extension,
        "sender": outbound.sender,
        "recipient": outbound.recipient,
        "size_bytes": len(outbound.text) if outbound.body is None else outbound.body.size,
        "attempts": entry.attempts,
        "next_s": entry.next_s,
        "created_s": entry.created_s,
        "note": entry.note,
    }
