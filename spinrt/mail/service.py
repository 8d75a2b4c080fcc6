"""The mail system put together: store, extensions, listeners, queue, and the order in which they start and stop.

Starting: lock and recover the data directory, accounts' mailboxes, extensions, then listeners: nobody is let in before
mail can be taken. Stopping is a drain: listeners close and finish what is under way, then the queue, then the store
makes durable what was submitted. Killed instead, nothing that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from spinrt import trace
from spinrt.errors import ConfigError, SpinError, StateError, StorageError
from spinrt.mail.accounts import Accounts, Directory
from spinrt.mail.config import Config, load
from spinrt.mail.config_values import Endpoint, TcpEndpoint
from spinrt.mail.control import ControlServer
from spinrt.mail.delivery import Deliverer, Observer, OnFailure, ignore_failure
from spinrt.mail.expiring import Expiring
from spinrt.mail.extensions import MailRuntime, load_extensions, make_runtime
from spinrt.mail.hooks import ImapHooks
from spinrt.mail.imap.server import ImapServer
from spinrt.mail.mirror_operations import make_mirroring, mirror_handlers
from spinrt.mail.mirror_server import MirrorServer, check_mirrors
from spinrt.mail.mirroring import Mirroring
from spinrt.mail.operations import runtime_handlers, server_handlers
from spinrt.mail.outbound import OutboundQueue
from spinrt.mail.receiver import MailReceiver
from spinrt.mail.reload import Reloaded, Reloader
from spinrt.mail.scrubbing import Scrubbing
from spinrt.mail.smtp.server import SmtpServer
from spinrt.mail.snapshot_operations import snapshot_handlers
from spinrt.mail.snapshotting import Snapshotting
from spinrt.mail.starting import Later, open_store
from spinrt.mail.store.model import KvWrites
from spinrt.mail.store.store import Store
from spinrt.mail.throttle import Throttle
from spinrt.mail.tls import server_context
from spinrt.runtime.inspect import describe

if TYPE_CHECKING:
    from spinrt.mail.metrics import MetricsServer

CRASHES_NAME = "crashes"
"""Where crash records go, in the data directory."""
YOUNG_OBJECTS_MAX = 10_000
"""Objects between two looks for cycles. With Python's 700 that was a look for every 20 messages, and 3 µs for each."""

_LOG = trace.component("service")

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
SslContext: TypeAlias = ssl.SSLContext | None


class MailService:
    """One running mail system. `start` it, `stop` it, once each, on the event loop whose thread made it.

    Args:
        config: What to serve.

    Attributes:
        observers: Called with a `DeliveryReport` for each transaction; append to it at any time.
        on_failure: Set it before `start`. Called, perhaps again and again, when the store has failed for good: nothing
            is taken until the next start.
        endpoints: Service name (``smtp``, ``imap``, …) → where it really listens, for port 0.
    """

    store: Store
    accounts: Accounts
    mail: MailRuntime
    mirroring: Mirroring
    snapshotting: Snapshotting
    scrubbing: Scrubbing

    def __init__(self, config: Config) -> None:
        self.config = config
        self.observers: list[Observer] = []
        self.on_failure: OnFailure = ignore_failure
        self.endpoints: dict[str, Endpoint] = {}
        self._listeners: list[SmtpServer | ImapServer] = []
        self._mirror_server: MirrorServer | None = None
        self._closers = contextlib.AsyncExitStack()
        self._started = False
        self._grace_s = config.drain_timeout_s

    # ------------------------------------------------------------------------------------------------------- start

    async def start(self) -> None:
        """Open everything and listen; on failure everything is closed again.

        Raises:
            DataLocked, FormatUnknown, CorruptRecord, StorageError: The data directory. For room is waited.
            Busy: Another process listens on a port or socket.
            ConfigError: Certificates, ports, extensions, anything that only shows now.
            LinkError, ExtensionError, UsageError: An extension.
        """
        if self._started:
            raise StateError("mail service: started already")
        self._started = True
        try:
            await self._open_store()
            await self._load_extensions()
            await self._listen()
            await self._start_mirrors()
            self._start_snapshots()
            self._start_scrubbing()
            await self._serve_metrics()
            await self._serve_control()
        except BaseException:
            await self.stop(grace_s=0.0)
            raise

    async def _open_store(self) -> None:
        config = self.config
        self.store = await open_store(config)
        self._closers.push_async_callback(self.store.close)
        self._later = Later()
        self._closers.push_async_callback(self._later.close)
        directory = Directory(config.accounts, config.domains, config.postmaster)
        self.accounts = Accounts(directory)
        self._closers.push_async_callback(self.accounts.close)
        accounts = {f"mailboxes of {name}": partial(self.store.ensure_account, name) for name in config.accounts}
        await asyncio.gather(*(self._later.run(what, ensure) for what, ensure in accounts.items()))

    async def _load_extensions(self) -> None:
        config = self.config
        self.mail = make_runtime(
            hostname=config.hostname, has_smarthost=config.smarthost is not None, kv_load=self.store.kv_load
        )
        crashes = self.mail.runtime.keep_crashes(config.data_directory / CRASHES_NAME)
        self._closers.callback(crashes.close)
        load_extensions(self.mail.runtime, config.extensions)
        self._reloader = Reloader(self.mail.runtime, config.extensions)
        await self._store_initial(self.mail.runtime.domains)
        if config.smarthost is not None:
            self._start_queue(config)

    async def _store_initial(self, names: Iterable[str]) -> None:
        """Make durable what extensions wrote into their maps when they were initialised."""
        initial = self.mail.ledger.unstored(names)
        if initial:
            await self._later.run("what extensions began with", partial(self._submit, KvWrites(initial)))

    async def _submit(self, change: KvWrites) -> None:
        await self.store.submit(change)

    async def reload_extensions(self, fresh: Config) -> Reloaded:
        """Load, replace and unload what ``extensions`` of a configuration says differently; look at nothing else."""
        done = self._reloader.apply(fresh.extensions)
        await self._store_initial(done.changed)
        runtime = self.mail.runtime
        if runtime.replacements:
            delay_s = max(one.probation.seconds for one in runtime.replacements.values()) + 1.0
            asyncio.get_running_loop().call_later(delay_s, runtime.end_probations)
        return done

    def _start_queue(self, config: Config) -> None:
        assert config.smarthost is not None
        queue = OutboundQueue(
            self.store,
            config.smarthost.connection(),
            hostname=config.hostname,
            clock=time.time,
            jitter=random.random,
            policy=config.queue,
        )
        task = asyncio.get_running_loop().create_task(queue.run())
        self._closers.push_async_callback(self._close_queue, queue, task)
        self._closers.callback(self.store.on_queue(queue.wake))

    async def _close_queue(self, queue: OutboundQueue, task: asyncio.Task[None]) -> None:
        await queue.close(self._grace_s)
        await task

    async def _listen(self) -> None:
        context = server_context(self.config)
        throttle = Throttle(self.config.throttle, asyncio.get_running_loop().time)
        deliverer = Deliverer(
            self.store,
            self.mail,
            self.accounts.resolve,
            observers=self.observers,
            on_failure=self.on_failure,
        )
        self._closers.push_async_callback(self._close_listeners)
        for name, endpoint in self.config.listen.services():
            if name in ("imap", "imaps"):
                server: SmtpServer | ImapServer = await self._start_imap(name, endpoint, context, throttle)
            else:
                server = await self._start_smtp(name, endpoint, context, throttle, deliverer)
            self._listeners.append(server)
            self.endpoints[name] = _bound(endpoint, server)
            trace.log(_LOG, logging.INFO, "listening", service=name, at=self.endpoints[name])

    async def _start_smtp(
        self, name: str, endpoint: Endpoint, context: SslContext, throttle: Throttle, deliverer: Deliverer
    ) -> SmtpServer:
        config, lmtp = self.config, name == "lmtp"
        submission = name in ("submission", "smtps")
        receiver = MailReceiver(self.store, deliverer, self.accounts, login_required=submission)
        start = partial(
            SmtpServer.start,
            receiver=receiver,
            hostname=config.hostname,
            limits=config.lmtp if lmtp else config.smtp,
            tls_context=context,
            implicit_tls=name == "smtps",
            lmtp=lmtp,
            throttle=throttle,
        )
        if isinstance(endpoint, TcpEndpoint):
            return await start(endpoint.host, endpoint.port)
        return await start(path=endpoint.path)

    async def _start_imap(self, name: str, endpoint: Endpoint, context: SslContext, throttle: Throttle) -> ImapServer:
        if not isinstance(endpoint, TcpEndpoint):
            raise ConfigError(f"listen.{name}: found {endpoint}, expected host:port; IMAP listens on TCP only")
        server = ImapServer()
        await server.start(
            endpoint.host,
            endpoint.port,
            store=self.store,
            authenticate=self.accounts.authenticate,
            hostname=self.config.hostname,
            limits=self.config.imap,
            tls_context=context,
            implicit_tls=name == "imaps",
            hooks=ImapHooks(self.store, self.mail),
            throttle=throttle,
        )
        return server

    async def _start_mirrors(self) -> None:
        """Keep the mirrors of others, and have this store mirrored."""
        if self.config.mirror.listen is None:
            check_mirrors(self.config)
        else:
            self._mirror_server = server = MirrorServer(self.config)
            await server.start()
            self._closers.push_async_callback(server.close)
            self.endpoints["mirror"] = _bound(self.config.mirror.listen, server)
            trace.log(_LOG, logging.INFO, "listening", service="mirror", at=self.endpoints["mirror"])
        self.snapshotting = Snapshotting(self.config, self.store)
        self.mirroring = make_mirroring(self.config, self.store, self.snapshotting)
        self.mirroring.start()
        self._closers.push_async_callback(self.mirroring.close)

    def _start_snapshots(self) -> None:
        self.snapshotting.start()
        self._closers.push_async_callback(self.snapshotting.close)
        expiring = Expiring(self.config.storage.retention, self.store)
        expiring.start()
        self._closers.push_async_callback(expiring.close)

    def _start_scrubbing(self) -> None:
        self.scrubbing = Scrubbing(self.store, self.config.storage.scrub)
        self.scrubbing.start()
        self._closers.callback(self.scrubbing.close)

    def _describe_kept(self) -> list[dict[str, Any]]:
        return [] if self._mirror_server is None else self._mirror_server.describe()

    async def _serve_metrics(self) -> None:
        endpoint = self.config.metrics.listen
        if endpoint is None:
            return
        from spinrt.mail.metrics import MetricsServer  # its library is loaded only where somebody wants it
        from spinrt.mail.mirror_metrics import MirrorMetrics
        from spinrt.mail.scrub_metrics import ScrubMetrics

        others = [MirrorMetrics(self.mirroring.describe, self._describe_kept), ScrubMetrics(self.scrubbing.state)]
        server = MetricsServer(partial(describe, self.mail.runtime, handles=False, faults=False), others)
        await server.start(endpoint.host, endpoint.port)
        self._closers.push_async_callback(server.close)
        self.endpoints["metrics"] = _bound(endpoint, server)
        trace.log(_LOG, logging.INFO, "listening", service="metrics", at=self.endpoints["metrics"])

    async def _serve_control(self) -> None:
        handlers = {
            **server_handlers(self.store, self.accounts, self.config, self.reload_extensions),
            **runtime_handlers(self.mail.runtime),
            **mirror_handlers(self.mirroring, self._mirror_server),
            **snapshot_handlers(self.snapshotting, self.store),
        }
        control = await ControlServer.start(self.config.data_directory, handlers)
        self._closers.push_async_callback(control.close)

    # -------------------------------------------------------------------------------------------------------- stop

    async def stop(self, grace_s: float | None = None) -> None:
        """Take nothing new, let what is under way finish for so long, make everything durable, close.

        Args:
            grace_s: By default ``drain_timeout`` of the configuration.
        """
        self._grace_s = self.config.drain_timeout_s if grace_s is None else grace_s
        await self._closers.aclose()

    async def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, []
        results = await asyncio.gather(*(one.close(self._grace_s) for one in listeners), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                trace.log(_LOG, logging.ERROR, "listener did not close", reason=result)

    async def reload(self) -> None:
        """Read accounts, domains and extensions anew from the configuration; a mistake in it changes nothing.

        What is wrong is logged: with the file, all stays; with one extension, that one stays as it was.
        """
        try:
            fresh = load(self.config.file, self.config.shown)
            await asyncio.gather(*(self.store.ensure_account(name) for name in fresh.accounts))
        except SpinError as error:
            trace.log(_LOG, logging.ERROR, "not reloaded", reason=error.line())
            return
        self.accounts.replace(Directory(fresh.accounts, fresh.domains, fresh.postmaster))
        done = await self.reload_extensions(fresh)
        trace.log(
            _LOG,
            logging.INFO,
            "reloaded",
            accounts=len(fresh.accounts),
            extensions=len(done.changed) + len(done.unloaded),
            failed=len(done.failed),
        )


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[MailService]:
    """A mail service for the length of a ``with`` block: for embedding, tests and the demo."""
    service = MailService(config)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def serve_until_stopped(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once. SIGHUP reads anew.

    Raises:
        SpinError: It cannot start; see `MailService.start`.
        StorageError: The store failed for good while it was serving; it was stopped.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    failures: list[StorageError] = []
    reloads: set[asyncio.Task[None]] = set()
    service = MailService(config)

    def stop(number: signal.Signals) -> None:
        trace.log(_LOG, logging.INFO, "stopping", signal=number.name)
        trace.flush()  # a second signal ends the process at once
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)
        stopped.set()

    def give_up(error: StorageError) -> None:
        if not stopped.is_set():
            trace.log(_LOG, logging.ERROR, "stopping", reason=error.line())
            failures.append(error)
            stopped.set()

    def reload() -> None:
        task = loop.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    service.on_failure = give_up
    await service.start()
    # What lives now lives as long as the process; the collector need not look at it again and again. Nor at what comes
    # and goes with each message: it is in no cycle.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    trace.log(_LOG, logging.INFO, "ready", accounts=len(service.accounts.directory.accounts))
    try:
        await stopped.wait()
    finally:
        await service.stop()
        trace.log(_LOG, logging.INFO, "stopped")
    if failures:
        raise failures[0]


def serve(config: Config) -> int:
    """Serve in the foreground, on the event loop that the configuration names; return the exit code.

    Raises:
        SpinError: It cannot start; see `MailService.start`.
    """
    with asyncio.Runner(loop_factory=loop_factory(config.event_loop)) as runner:
        runner.run(serve_until_stopped(config))
    return 0


def loop_factory(name: str) -> LoopFactory | None:
    """The event loop called ``auto``, ``asyncio`` or ``uvloop``; auto is uvloop where it is installed.

    Raises:
        ConfigError: uvloop is asked for and not installed.
    """
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "auto":
            return None
        raise ConfigError("event_loop: uvloop is not installed", hint="pip install spinrt[uvloop]") from None
    return uvloop.new_event_loop


def _bound(endpoint: Endpoint, server: SmtpServer | ImapServer | MetricsServer | MirrorServer) -> Endpoint:
    """Where a server listens: the endpoint with the port that the system chose."""
    if not isinstance(endpoint, TcpEndpoint):
        return endpoint
    return replace(endpoint, port=server.sockets[0].getsockname()[1])
