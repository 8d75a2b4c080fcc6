"""One message on its way into its sink: counted, judged, and let go of when something is wrong with it."""

from __future__ import annotations

from spinrt._core import HopCounter
from spinrt.errors import StorageError
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.receiver import BodySink
from spinrt.mail.smtp.reply import Reply


class Transfer:
    """A message being received.

    What is wrong with it is asked at its end, so that the answer does not depend on how the octets were cut.

    Attributes:
        size: Octets so far, those that were thrown away included.
        bare: A bare CR or LF was seen where none may be.
    """

    __slots__ = ("_hops", "_limits", "_sink", "_storage_failed", "bare", "size")

    def __init__(self, sink: BodySink | None, limits: SmtpLimits) -> None:
        """``sink`` none: there was no room to begin with; the octets are only counted."""
        self._sink = sink
        self._limits = limits
        self._hops = HopCounter()
        self._storage_failed = sink is None
        self.size = 0
        self.bare = False

    def write(self, content: bytes) -> None:
        """Pass octets on, as long as nothing is wrong."""
        self.size += len(content)
        hops = self._hops
        if not hops.complete:
            hops.feed(content)
        if self._sink is None:
            return
        if self.refusal() is not None:
            self.abort()
            return
        try:
            self._sink.write(content)
        except StorageError:
            self._storage_failed = True
            self.abort()

    def refusal(self) -> Reply | None:
        """What is wrong with the message so far, the gravest first."""
        if self.size > self._limits.message_bytes_max:
            return reply.MESSAGE_TOO_LARGE
        if self.bare:
            return reply.BARE_NEWLINE
        if self._hops.hops > self._limits.hops_max:
            return reply.LOOP
        return reply.STORAGE_UNAVAILABLE if self._storage_failed else None

    def is_hopeless(self) -> bool:
        """More was sent behind a message that is too large than anyone needs to take."""
        return self.size > self._limits.message_bytes_max + self._limits.discard_bytes_max

    def abort(self) -> None:
        """Let go of the sink. May be called again."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()

    def release(self) -> BodySink:
        """Hand the sink to whoever delivers. Only without a `refusal`."""
        sink, self._sink = self._sink, None
        assert sink is not None
        return sink
