"""One IMAP connection on asyncio: bytes in, commands carried out one at a time, bytes out.

Commands that a client sends ahead run in order, each when the one before is answered. A command runs where it was
read, and becomes a task when it has to wait (for the store, a slow client, or its next slice of time); meanwhile input
is kept up to a bound, then the socket is not read. Output is gathered and leaves in one write when all that came is
answered; while the client is slow the command that makes the output waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

from spinrt.errors import SpinError
from spinrt.mail.imap.append import Appending
from spinrt.mail.imap.command import AppendTo, Command
from spinrt.mail.imap.commands_login import capabilities
from spinrt.mail.imap.handlers import HANDLERS
from spinrt.mail.imap.reader import Bad, Continue, Event, Fatal, MessageData, MessageEnd, MessageStart, Reader, TooBig
from spinrt.mail.imap.response import text
from spinrt.mail.imap.resume import resume
from spinrt.mail.imap.session import Disconnected, Refused, Services, refusal, tell_updates
from spinrt.mail.imap.state import RENUMBERING_FORBIDDEN, NoSuchMessage, Phase, SessionState
from spinrt.mail.throttle import is_local

_LOG = logging.getLogger("spinrt.mail.imap")
_INPUT_BYTES_HIGH = 256 * 1024
_BREATHE_BYTES = 64 * 1024
_FAREWELL_S = 10.0
"""How long a client may take to read the last words."""


class Connection(asyncio.Protocol):
    """A connection; implements `spinrt.mail.imap.session.Session` for the handlers.

    Args:
        services: Shared by all connections of the server.
        owner: Told of the start and the end of the connection.
        tls: Context for STARTTLS, or none.
        encrypted: Whether the connection starts under TLS.
    """

    def __init__(self, services: Services, owner: Owner, tls: ssl.SSLContext | None, *, encrypted: bool) -> None:
        self.services = services
        self.state = SessionState()
        self.peer = ""
        self._owner = owner
        self._tls = tls
        self._encrypted = encrypted
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(services.limits)
        self._output: list[bytes] = []
        self._output_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._appending: Appending | None = None
        self._append_tag = ""
        self._line: asyncio.Future[bytes] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._reading = True
        self._at_end = False
        self._wants_tls = False
        self._idle = False
        self._idle_flush: asyncio.Handle | None = None
        self._slice_end = 0.0
        self._next_pump: asyncio.Handle | None = None
        self._active = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._counted = False

    # ------------------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = _peer_address(self._transport)
        _set_no_delay(self._transport)
        self._transport.set_write_buffer_limits(high=self.services.limits.output_bytes_high)
        problem = self._owner.opened(self)
        if problem:
            self._say_goodbye(problem)
            return
        self._counted = True
        self._arm_timer()
        self.write(b"* OK [CAPABILITY " + capabilities(self).encode("ascii") + b"] ")
        self.write(text(self.services.hostname) + b" ready\r\n")
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._active = self._loop.time()
        self._reader.feed(data)
        self._pump()
        if self._reading and self._reader.buffered > _INPUT_BYTES_HIGH and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; what it sent is still answered."""
        self._at_end = True
        under_way = self._task is not None or self._writable is not None or self._next_pump is not None
        return self._line is None and under_way

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        self._active = self._loop.time()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        if self._task is None:
            self._loop.call_soon(self._pump)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self.state.leave()
        self.state.phase = Phase.LOGOUT
        self._drop_append()
        for waiting in (self._line, self._writable):
            if waiting is not None and not waiting.done():
                waiting.set_exception(Disconnected())
                waiting.exception()  # looked at: nobody may be waiting
        for handle in (self._timer, self._idle_flush, self._next_pump):
            if handle is not None:
                handle.cancel()
        if self._counted:
            self._counted = False
            self._owner.closed(self)

    # ----------------------------------------------------------------------------------------------------- Session

    @property
    def encrypted(self) -> bool:
        return self._encrypted

    @property
    def trusted_peer(self) -> bool:
        return is_local(self.peer)

    def write(self, data: bytes) -> None:
        self._output.append(data)
        self._output_bytes += len(data)

    def pressed(self) -> bool:
        return (
            self._output_bytes >= _BREATHE_BYTES
            or self._writable is not None
            or self._transport is None
            or self._loop.time() >= self._slice_end
        )

    async def breathe(self) -> None:
        if self._output_bytes >= _BREATHE_BYTES:
            self._flush()
        if self._transport is None or self._transport.is_closing():  # closing: a write found the client gone
            raise Disconnected
        if self._writable is not None:
            await self._writable
        if self._loop.time() >= self._slice_end:
            await asyncio.sleep(0)
            self._slice_end = self._loop.time() + self.services.limits.slice_s

    async def read_line(self) -> bytes:
        self._flush()
        if self._transport is None:
            raise Disconnected
        line = self._reader.next_line()
        if line is not None:
            return line
        self._line = self._loop.create_future()
        try:
            return await self._line
        finally:
            self._line = None

    def idle(self, active: bool) -> None:
        self._idle = active

    def start_tls(self) -> None:
        self._wants_tls = True

    async def check_password(self, user: str, password: str) -> str | None:
        throttle = self.services.throttle
        if throttle is not None:
            delay_s = throttle.login_allowed(self.peer, user)
            if delay_s is None:
                raise Refused("too many failed logins; try again later", code="UNAVAILABLE")
            await asyncio.sleep(delay_s)
        answer: asyncio.Future[str | None] = self._loop.create_future()

        def done(account: str | None) -> None:
            if not answer.done():
                answer.set_result(account)

        self.services.authenticate(user, password, done)
        account = await answer
        if throttle is not None:
            (throttle.login_failed if account is None else throttle.login_succeeded)(self.peer, user)
        return account

    # ---------------------------------------------------------------------------------------------------- commands

    def _pump(self) -> None:
        """Carry out what is there, until a command has to wait or others are to have their turn."""
        if self._next_pump is not None:
            self._next_pump.cancel()
            self._next_pump = None
        self._slice_end = turn_end = self._loop.time() + self.services.limits.slice_s
        if self._line is not None and not self._line.done():
            line = self._reader.next_line()
            if line is not None:
                self._line.set_result(line)
        while self._task is None and self._transport is not None and self.state.phase is not Phase.LOGOUT:
            if self._writable is not None:
                break  # the client does not take the answers it has: no more commands until it does
            if self._loop.time() >= turn_end:
                self._next_pump = self._loop.call_soon(self._pump)
                break
            event = self._reader.next()
            if event is None:
                if self._at_end:
                    self._close()
                break
            self._take(event)
        self._flush()
        self._resume_reading()

    def _take(self, event: Event) -> None:
        match event:
            case Command():
                self._execute(event)
            case Continue():
                self.write(b"+ go on\r\n")
            case MessageData(data):
                if self._appending is not None:
                    self._appending.write(data)
            case MessageStart():
                self._start_append(event)
            case MessageEnd(problem):
                self._end_append(problem)
            case Bad(tag, problem):
                self._answer_bad(tag, b"BAD " + text(problem))
            case TooBig(tag, problem):
                self._answer_bad(tag, b"BAD [TOOBIG] " + text(problem))
            case Fatal(problem):
                self._say_goodbye(problem)

    def _answer_bad(self, tag: str | None, answer: bytes) -> None:
        self.write((tag or "*").encode("ascii") + b" " + answer + b"\r\n")
        self._count_bad()

    def _count_bad(self) -> None:
        self.state.bad_commands += 1
        if self.state.bad_commands > self.services.limits.bad_commands_max:
            self._say_goodbye("too many commands that cannot be read")

    def _execute(self, command: Command) -> None:
        if not self.state.allows(command.name):
            problem = f"{command.name} has no meaning in the state: {self.state.phase.value}"
            self._answer_bad(command.tag, b"BAD " + text(problem))
            return
        view = self.state.view
        if view is not None and view.gone:
            self._say_goodbye("the selected mailbox was deleted")
            return
        try:
            result = HANDLERS[command.name](self, command.arguments)
        except Exception as error:
            self._finish(command.tag, command.name, self._failure(command.name, error))
            return
        if isinstance(result, bytes):
            self._finish(command.tag, command.name, result)
        else:
            self._begin(command.tag, command.name, result)

    def _begin(self, tag: str, name: str, work: Coroutine[Any, Any, bytes]) -> None:
        """Carry out a command up to where it has to wait, if it has to; from there on it is a task."""
        try:
            waits_for = work.send(None)
        except StopIteration as end:
            answer: bytes = end.value
        except Exception as error:
            answer = self._failure(name, error)
        else:
            self._task = self._loop.create_task(self._go_on(tag, name, resume(work, waits_for)))
            return
        self._finish(tag, name, answer)

    async def _go_on(self, tag: str, name: str, work: Awaitable[bytes]) -> None:
        """Carry out the rest of a command that waits, then go on with the next."""
        try:
            answer = await work
        except Exception as error:
            answer = self._failure(name, error)
        self._task = None
        self._finish(tag, name, answer)
        self._pump()

    def _failure(self, name: str, error: Exception) -> bytes:
        """The answer to a command that raised. An error of our own is logged and told without detail."""
        match error:
            case Refused():
                return error.reply()
            case Disconnected():
                return b""
            case SpinError():
                return refusal(error).reply()
            case NoSuchMessage():
                return b"BAD " + text(str(error))
            case _:
                _LOG.error("IMAP %s of %s failed", name, self.state.user or self.peer, exc_info=error)
                return b"NO [SERVERBUG] internal error, the server's log says more"

    def _finish(self, tag: str, name: str, answer: bytes) -> None:
        """Tell what happened meanwhile, then the tagged answer."""
        if self._transport is None:
            return
        if not answer:
            if self.state.phase is Phase.LOGOUT:  # an answer was cut short
                self._close()
            return
        tell_updates(self, expunge=name not in RENUMBERING_FORBIDDEN)
        self.write(tag.encode("ascii") + b" " + answer + b"\r\n")
        if answer.startswith(b"BAD"):
            self._count_bad()
        if self.state.login_failures >= self.services.limits.login_failures_max:
            self._say_goodbye("too many failed logins")
        elif self.state.phase is Phase.LOGOUT:
            self._close()
        elif self._wants_tls:
            self._begin_tls()

    # ------------------------------------------------------------------------------------------------------ APPEND

    def _start_append(self, start: MessageStart) -> None:
        tag, arguments = start.command.tag, start.command.arguments
        assert isinstance(arguments, AppendTo)
        try:
            if not self.state.allows("APPEND"):
                raise Refused("log in first", status="BAD")
            self._appending = Appending(self, arguments, start.size)
        except Exception as error:
            self._reader.refuse_message()
            self._finish(tag, "APPEND", self._failure("APPEND", error))
            return
        self._append_tag = tag
        self._reader.accept_message()
        if start.waits:
            self.write(b"+ send the message\r\n")

    def _end_append(self, problem: str | None) -> None:
        appending, self._appending = self._appending, None
        if appending is not None:
            self._begin(self._append_tag, "APPEND", appending.finish(problem))

    def _drop_append(self) -> None:
        appending, self._appending = self._appending, None
        if appending is not None:
            appending.abort()

    # -------------------------------------------------------------------------------------------------------- IDLE

    def notice(self) -> None:
        """Something happened in the selected mailbox; in IDLE the client hears of it, once for many changes."""
        if self._idle and self._idle_flush is None:
            self._idle_flush = self._loop.call_soon(self._tell_idle)

    def _tell_idle(self) -> None:
        self._idle_flush = None
        if self._idle and self._transport is not None:
            view = self.state.view
            if view is not None and view.gone:
                self._say_goodbye("the selected mailbox was deleted")
                return
            tell_updates(self, expunge=True)
            self._flush()

    # -------------------------------------------------------------------------------------------------- transport

    def _flush(self) -> None:
        if self._output:
            data = b"".join(self._output)
            self._output.clear()
            self._output_bytes = 0
            if self._transport is not None:
                self._transport.write(data)

    def _resume_reading(self) -> None:
        if not self._reading and self._reader.buffered <= _INPUT_BYTES_HIGH and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def _begin_tls(self) -> None:
        """Change to TLS. What the client sent ahead in the clear is forgotten: anybody may have put it there."""
        self._wants_tls = False
        self._flush()
        self._reader.clear()
        assert self._transport is not None and self._tls is not None
        self._transport.pause_reading()
        self._task = self._loop.create_task(self._upgrade(self._transport, self._tls))

    async def _upgrade(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            timeout = self.services.limits.login_timeout_s
            upgraded = await self._loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=timeout
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError):
            transport.abort()
            return
        finally:
            self._task = None
        if upgraded is None:
            return
        self._transport = upgraded
        self._encrypted = True
        self._transport.set_write_buffer_limits(high=self.services.limits.output_bytes_high)
        self._pump()

    def _say_goodbye(self, reason: str) -> None:
        self.write(b"* BYE " + text(reason) + b"\r\n")
        self._close()

    def _close(self) -> None:
        self.state.phase = Phase.LOGOUT
        self._flush()
        if self._transport is not None:
            self._transport.close()
        if self._timer is not None:
            self._timer.cancel()
            self._arm_timer()

    # ----------------------------------------------------------------------------------------------------- time-outs

    def _arm_timer(self) -> None:
        self._timer = self._loop.call_later(max(0.01, self._patience() - self._silence()), self._check_time)

    def _silence(self) -> float:
        return self._loop.time() - self._active

    def _patience(self) -> float:
        limits = self.services.limits
        if self.state.phase is Phase.LOGOUT:
            return _FAREWELL_S
        if self._writable is not None:
            return limits.write_timeout_s
        return limits.login_timeout_s if self.state.phase is Phase.GREETED else limits.idle_timeout_s

    def _check_time(self) -> None:
        """Called when the patience with a silent client may have come to its end; input only moves a number."""
        if self._transport is None:
            return
        if self._silence() < self._patience():
            self._arm_timer()
        elif self._writable is not None or self.state.phase is Phase.LOGOUT:
            self._transport.abort()
        elif self._task is not None and self._line is None:
            self._active = self._loop.time()  # it waits for us, not we for it
            self._arm_timer()
        else:
            self._active = self._loop.time()
            self._say_goodbye("silent for too long")

    async def shut_down(self, grace_s: float) -> None:
        """Say goodbye, let the running command end within ``grace_s``, then cut."""
        task = self._task
        if task is not None and self._line is None:
            await asyncio.wait([task], timeout=grace_s)
        if self._transport is not None:
            self._say_goodbye("the server is shutting down")
        if self._line is not None and not self._line.done():
            self._line.set_exception(Disconnected())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._owner.gone(self), grace_s)
        if self._transport is not None:
            self._transport.abort()


class Owner:
    """What a connection needs from its server."""

    def opened(self, connection: Connection) -> str | None:
        """Count a connection in; a text refuses it."""
        raise NotImplementedError

    def closed(self, connection: Connection) -> None:
        raise NotImplementedError

    async def gone(self, connection: Connection) -> None:
        """Wait until the connection is closed."""
        raise NotImplementedError


def _peer_address(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) and name else ""


def _set_no_delay(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
