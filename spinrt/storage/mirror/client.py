"""What a side that asks has in common, without I/O: one generator says what goes out and what must come in next."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Final, TypeAlias

from spinrt.errors import PeerProtocolError
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.frames import Frame, FrameReader, Kind
from spinrt.storage.mirror.traffic import Traffic

PRODUCE_BYTES: Final = 256 * 1024

Script: TypeAlias = Generator[bytes, None, None]
"""Yields frames to send; an empty one means: a frame of the peer is needed."""


class Client:
    """Feed `receive`, send what `produce` returns, until `done`. Subclasses write `_run`.

    Args:
        inbox_frames_max: Frames that the peer may be ahead.
    """

    def __init__(self, inbox_frames_max: int) -> None:
        self.done = False
        self.traffic = Traffic()
        self._reader = FrameReader()
        self._inbox: deque[Frame] = deque()
        self._inbox_frames_max = inbox_frames_max
        self._script = self._run()

    def _run(self) -> Script:
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        """Take bytes of the mirror.

        Raises:
            PeerProtocolError: They are not what the protocol allows.
            SpinError: The mirror refused; what it said.
        """
        self.traffic.received_bytes += len(data)
        self._reader.feed(data)
        for frame in self._reader.frames():
            if frame.kind is Kind.REFUSED:
                raise frames.decode_refused(frame.payload)
            self._inbox.append(frame)
            if len(self._inbox) > self._inbox_frames_max:
                raise PeerProtocolError("mirror: the other side answers what was not asked")

    def produce(self, bytes_max: int = PRODUCE_BYTES) -> bytes:
        """Return what can be sent now, about so many bytes; nothing: the mirror is waited for, or `done`.

        Raises:
            PeerProtocolError: The mirror answered with something else than is due.
            StorageError: What is to be sent cannot be read; it is over.
        """
        produced: list[bytes] = []
        size = 0
        while size < bytes_max and not self.done:
            try:
                frame = next(self._script)
            except StopIteration:
                self.done = True
                break
            if not frame:
                break
            produced.append(frame)
            size += len(frame)
        self.traffic.sent_bytes += size
        return b"".join(produced)

    def _next(self) -> Generator[bytes, None, Frame]:
        while not self._inbox:
            yield b""
        return self._inbox.popleft()

    def _await(self, kind: Kind) -> Generator[bytes, None, bytes]:
        frame = yield from self._next()
        if frame.kind is not kind:
            raise PeerProtocolError(f"mirror: found {frame.kind.name}, expected {kind.name}")
        return frame.payload
