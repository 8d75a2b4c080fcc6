"""The control socket and the operations behind it, with a server and without."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spinrt.errors import ConfigError, DataLocked, NotFound, PeerProtocolError, SpinError, StateError, UsageError
from spinrt.mail import config as configuration
from spinrt.mail.accounts import Accounts, Directory
from spinrt.mail.accounts_file import Account, save_accounts
from spinrt.mail.address import Address
from spinrt.mail.asking import ask
from spinrt.mail.config import Config
from spinrt.mail.control import REQUEST_BYTES_MAX, ControlServer, NoServer, error_of, request
from spinrt.mail.operations import server_handlers
from spinrt.mail.store.model import Body, Deliver, Outbound
from spinrt.mail.store.store import Store

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$qsuAQOd0MDWgA9vSIrtPCKHqZ/eTW9pVPFGsDVGMB+I"


async def echo(arguments: Mapping[str, Any]) -> Any:
    return dict(arguments)


async def refuse(arguments: Mapping[str, Any]) -> Any:
    raise StateError("thing 7: it is open, expected closed", hint="close it")


async def break_down(arguments: Mapping[str, Any]) -> Any:
    raise ZeroDivisionError("oops")


HANDLERS = {"echo": echo, "refuse": refuse, "break": break_down}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configuration.parse("", tmp_path / "spinrt.yaml")


async def asked(directory: Path, operation: str, **arguments: Any) -> Any:
    return await asyncio.to_thread(request, directory, operation, arguments)


def test_request_gets_the_result_or_the_same_error(tmp_path: Path) -> None:
    """Results and errors cross the socket; one that is our mistake is answered, too, and the server goes on."""

    async def run() -> None:
        server = await ControlServer.start(tmp_path, HANDLERS)
        assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600
        assert await asked(tmp_path, "echo", a=[1, "ü"]) == {"a": [1, "ü"]}
        with pytest.raises(StateError, match="thing 7") as caught:
            await asked(tmp_path, "refuse")
        assert caught.value.hint == "close it"
        with pytest.raises(SpinError, match="ZeroDivisionError: oops"):
            await asked(tmp_path, "break")
        with pytest.raises(UsageError, match="unknown operation 'fly'"):
            await asked(tmp_path, "fly")
        assert await asked(tmp_path, "echo") == {}
        await server.close()
        await server.close()
        assert not (tmp_path / "control").exists()
        with pytest.raises(NoServer):
            await asked(tmp_path, "echo")

    asyncio.run(run())


def test_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    """What was left behind looks like no server, and does not keep the next one from starting."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control"))
    left.close()

    async def run() -> None:
        with pytest.raises(NoServer):
            await asked(tmp_path, "echo")
        server = await ControlServer.start(tmp_path, HANDLERS)
        assert await asked(tmp_path, "echo") == {}
        await server.close()

    asyncio.run(run())


def test_long_path_works(tmp_path: Path) -> None:
    """A path beyond what a socket address holds is reached all the same."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)

    async def run() -> None:
        server = await ControlServer.start(deep, HANDLERS)
        assert await asked(deep, "echo", a=1) == {"a": 1}
        await server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"\xff\n",
        b"[]\n",
        b"3\n",
        b'{"operation": 3}\n',
        b'{"operation": "echo", "arguments": []}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["empty", "no-json", "no-text", "list", "number", "operation", "arguments", "deep"],
)
def test_malformed_request_is_answered_and_the_connection_goes_on(tmp_path: Path, line: bytes) -> None:
    async def run() -> None:
        server = await ControlServer.start(tmp_path, HANDLERS)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(line + b'{"operation": "echo"}\n')
        first, second = [json.loads(await reader.readline()) for _ in range(2)]
        assert first["error"]["code"] == PeerProtocolError.code
        assert second == {"ok": True, "result": {}}
        writer.close()
        await server.close()

    asyncio.run(run())


def test_endless_request_is_cut_off(tmp_path: Path) -> None:
    """A line without an end costs bounded memory and ends the connection."""

    async def run() -> None:
        server = await ControlServer.start(tmp_path, HANDLERS)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control")
        writer.write(b"x" * (2 * REQUEST_BYTES_MAX + 10))
        answer = json.loads(await reader.readline())
        assert "longer than" in answer["error"]["message"]
        writer.close()
        await server.close()

    asyncio.run(run())


def test_error_of_an_unknown_code_keeps_what_it_says() -> None:
    """A newer server may know errors that this client does not."""
    error = error_of("mail.future", "thing 7: new", "h")

    assert type(error) is SpinError
    assert str(error) == "mail.future: thing 7: new"
    assert isinstance(error_of(ConfigError.code, "m", ""), ConfigError)


async def queued(store: Store, count: int) -> None:
    """Put messages into the queue of a store."""
    outbound = tuple(Outbound("notify", "delivery", "", f"{n}@far.test", None, b"text") for n in range(count))
    body = Body(b"\0" * 32, 0, ())
    await store.submit(Deliver("d1", "smtp", "::1", "", ("a@b.test",), body, (), 1, outbound))


@pytest.mark.parametrize("served", [True, False], ids=["server", "direct"])
def test_queue_operations(config: Config, served: bool) -> None:
    """List, hold, release, retry and drop do the same through a server and on the store itself."""

    async def run() -> None:
        store = Store.open(config.data_directory)
        await queued(store, 3)
        server = None
        if served:
            server = await ControlServer.start(config.data_directory, server_handlers(store, no_accounts(), config))
        else:
            await store.close()
        await steer(config)
        if server is not None:
            await server.close()
            await store.close()

    asyncio.run(run())


def no_accounts() -> Accounts:
    return Accounts(Directory({}, ("localhost",), None))


async def steer(config: Config) -> None:
    async def do(operation: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(ask, config, operation, **arguments)

    async def states() -> dict[int, str]:
        return {entry["id"]: entry["state"] for entry in await do("queue.list", all=True)}

    first, second, third = sorted(await states())
    assert set((await states()).values()) == {"waiting"}
    assert await do("queue.change", action="hold", ids=[first, second]) == [first, second]
    with pytest.raises(StateError, match=f"queue entry {first}: hold: it is held, expected waiting"):
        await do("queue.change", action="hold", ids=[third, first])
    assert (await states())[third] == "waiting"
    assert await do("queue.change", action="release", ids=[]) == [first, second]
    assert await do("queue.change", action="retry", ids=[third]) == [third]
    assert await do("queue.change", action="drop", ids=[first]) == [first]
    assert [entry["id"] for entry in await do("queue.list")] == [second, third]
    assert (await states())[first] == "dropped"
    with pytest.raises(NotFound, match="queue entry 999"):
        await do("queue.change", action="drop", ids=[999])
    for wrong in ("fly", None):
        with pytest.raises(UsageError, match="unknown action"):
            await do("queue.change", action=wrong, ids=[])
    for ids in ("1", [True], ["1"]):
        with pytest.raises(UsageError, match="no list of ids"):
            await do("queue.change", action="drop", ids=ids)


@pytest.mark.parametrize("served", [True, False], ids=["server", "direct"])
def test_backup_can_be_opened(config: Config, tmp_path: Path, served: bool) -> None:
    """A backup is a data directory with the same content."""
    target = tmp_path / "copy"

    async def run() -> None:
        store = Store.open(config.data_directory)
        await queued(store, 2)
        server = None
        if served:
            server = await ControlServer.start(config.data_directory, server_handlers(store, no_accounts(), config))
        else:
            await store.close()
        result = await asyncio.to_thread(ask, config, "backup", target=str(target))
        assert result["target"] == str(target)
        with pytest.raises(UsageError, match="expected an absolute path"):
            await asyncio.to_thread(ask, config, "backup", target="copy2")
        if server is not None:
            await server.close()
            await store.close()
        copy = Store.open(target)
        assert len(copy.queue()) == 2
        await copy.close()

    asyncio.run(run())


def test_reload_brings_new_accounts(config: Config) -> None:
    """After the accounts file changed, the server knows the account, and its mailboxes are there."""

    async def run() -> None:
        store = Store.open(config.data_directory)
        accounts = no_accounts()
        server = await ControlServer.start(config.data_directory, server_handlers(store, accounts, config))
        config.file.write_text("")
        save_accounts(config.accounts_file, {"alice": Account("alice", HASH, (Address("alice", "localhost"),))})
        assert await asyncio.to_thread(ask, config, "accounts.reload") == {"accounts": 1}
        found = accounts.resolve(Address("alice", "localhost"))
        assert found is not None
        assert found[0].name == "alice"
        assert store.mailbox("alice", "INBOX") is not None
        config.file.write_text("nonsense: 1")
        with pytest.raises(ConfigError, match="unknown key 'nonsense'"):
            await asyncio.to_thread(ask, config, "accounts.reload")
        assert accounts.resolve(Address("alice", "localhost")) is not None
        await server.close()
        await accounts.close()
        await store.close()

    asyncio.run(run())


def test_without_data_nothing_is_made(config: Config) -> None:
    """Asking for the queue of a server that never ran says so and leaves no directory behind."""
    with pytest.raises(NotFound, match="not there yet"):
        ask(config, "queue.list")
    assert not config.data_directory.exists()


def test_locked_without_a_socket_is_locked(config: Config) -> None:
    """A process that holds the data directory and does not answer is reported, not worked around."""
    store = Store.open(config.data_directory)
    try:
        with pytest.raises(DataLocked):
            ask(config, "queue.list")
    finally:
        store.release()
