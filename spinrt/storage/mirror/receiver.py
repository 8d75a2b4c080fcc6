"""The mirror's side of one connection, without I/O: bytes in, bytes out; what arrives goes to an `Intake`.

Nothing that the peer says is believed: what may come when is a table, numbers ascend (so an offer cannot go on for
ever), contents must be those that were asked for, and no more than two offers are held. A frame that breaks a rule ends
the connection; what had arrived by then is kept, and makes nothing visible.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol

from spinrt.errors import PeerProtocolError
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.frames import Frame, FrameReader, Hello, Kind, PageOffer, Purpose, StoredBody
from spinrt.storage.mirror.traffic import Traffic

ANSWER_BYTES: Final = 256 * 1024


class Intake(Protocol):
    """Where an update goes. Every method may raise StorageError, and those that judge the peer PeerProtocolError."""

    def hello(self, hello: Hello) -> None:
        """Refuse a source that cannot be followed. Raises StateError."""
        ...

    def known(self) -> Sequence[bytes]:
        """Identities of the snapshots that are here: the current one first, then from new to old."""
        ...

    def begin(self, base: bytes | None, encoded: bytes) -> None: ...

    def want_pages(self, offer: PageOffer) -> list[bool]: ...

    def take_page(self, digest: bytes, stored: bytes, compressed: bool) -> None: ...

    def want_bodies(self, names: Sequence[int]) -> list[bool]: ...

    def take_body(self, name: int, body: StoredBody) -> None: ...

    def finish(self) -> bytes:
        """Make the update durable and visible; return the snapshot's identity."""
        ...

    def page(self, digest: bytes) -> tuple[bytes, bool] | None:
        """A page for who repairs: as stored, and whether compressed; none when it is not here, or damaged here too."""
        ...

    def body(self, name: int) -> StoredBody | None: ...


class State(Enum):
    """Where a connection is."""

    NEW = auto()
    GREETED = auto()
    TAKING = auto()
    FETCHING = auto()
    OVER = auto()


class _Offer(NamedTuple):
    """What is still to come for an offer: digests of pages, or names of bodies."""

    kind: Kind
    wanted: deque[bytes] | deque[int]


class Receiver:
    """Serves one connection. Feed `receive` and send what it returns, until `done`."""

    def __init__(self, intake: Intake) -> None:
        self.traffic = Traffic()
        self.updated: bytes | None = None
        """The snapshot that the connection brought."""
        self.intake = intake
        self._state = State.NEW
        self._reader = FrameReader()
        self._open: deque[_Offer] = deque()

    @property
    def done(self) -> bool:
        return self._state is State.OVER

    @property
    def idle(self) -> bool:
        """Whether the source may end the connection: no update is under way."""
        return self._state is not State.TAKING

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the source; return what to answer.

        After about ``ANSWER_BYTES`` it stops, however much was asked for: send the answer and call again with no bytes,
        until nothing comes back.

        Raises:
            PeerProtocolError: They are not what the protocol allows.
            SpinError: The update cannot be taken. Either way it is over, and the peer may be told.
        """
        self.traffic.received_bytes += len(data)
        self._reader.feed(data)
        answer = bytearray()
        for frame in self._reader.frames():
            answer += self._take(frame)
            if len(answer) >= ANSWER_BYTES:
                break
        self.traffic.sent_bytes += len(answer)
        return bytes(answer)

    def _take(self, frame: Frame) -> bytes:
        if frame.kind is Kind.REFUSED:
            raise frames.decode_refused(frame.payload)
        handler = _HANDLERS[self._state].get(frame.kind)
        if handler is None:
            raise PeerProtocolError(f"mirror: {frame.kind.name} does not fit the state {self._state.name.lower()}")
        return handler(self, frame.payload)

    def _hello(self, payload: bytes) -> bytes:
        hello = frames.decode_hello(payload)
        if hello.purpose is Purpose.UPDATE:
            self.intake.hello(hello)
        self._state = State.GREETED if hello.purpose is Purpose.UPDATE else State.FETCHING
        return frames.encode_welcome(self.intake.known())

    def _begin(self, payload: bytes) -> bytes:
        split = len(frames.NO_SNAPSHOT)
        base = payload[:split]
        self.intake.begin(None if base == frames.NO_SNAPSHOT else base, payload[split:])
        self._state = State.TAKING
        return b""

    def _pages(self, payload: bytes) -> bytes:
        offer = frames.decode_pages(payload)
        self._check_room()
        wanted = self.intake.want_pages(offer)
        self.traffic.pages_offered += len(wanted)
        self._expect(Kind.PAGE, [digest for digest, want in zip(offer.digests, wanted, strict=True) if want])
        return frames.encode_want(wanted)

    def _bodies(self, payload: bytes) -> bytes:
        names = frames.decode_bodies(payload)
        self._check_room()
        wanted = self.intake.want_bodies(names)
        self.traffic.bodies_offered += len(wanted)
        self._expect(Kind.BODY, [name for name, want in zip(names, wanted, strict=True) if want])
        return frames.encode_want(wanted)

    def _check_room(self) -> None:
        if len(self._open) >= frames.OFFERS_MAX:
            raise PeerProtocolError(f"mirror: more than {frames.OFFERS_MAX} offers at once")

    def _expect(self, kind: Kind, wanted: Sequence[bytes] | Sequence[int]) -> None:
        if wanted:
            self._open.append(_Offer(kind, deque(wanted)))  # type: ignore[arg-type]

    def _page(self, payload: bytes) -> bytes:
        stored, compressed = frames.decode_page(payload)
        digest = self._next_wanted(Kind.PAGE)
        assert isinstance(digest, bytes)
        self.intake.take_page(digest, stored, compressed)
        self.traffic.add_page(stored)
        return b""

    def _body(self, payload: bytes) -> bytes:
        body = frames.decode_body(payload)
        name = self._next_wanted(Kind.BODY)
        assert isinstance(name, int)
        self.intake.take_body(name, body)
        self.traffic.add_body(body.stored)
        return b""

    def _next_wanted(self, kind: Kind) -> bytes | int:
        if not self._open or self._open[0].kind is not kind:
            raise PeerProtocolError(f"mirror: {kind.name} that was not asked for")
        wanted = self._open[0].wanted.popleft()
        if not self._open[0].wanted:
            self._open.popleft()
        return wanted

    def _end(self, payload: bytes) -> bytes:
        said = frames.decode_end(payload)
        taken = (self.traffic.pages_moved, self.traffic.bodies_moved)
        if self._open or said != taken:
            raise PeerProtocolError(f"mirror: END after {said} pages and bodies, found {taken}")
        self.updated = self.intake.finish()
        self._state = State.OVER
        return frames.encode(Kind.DONE, self.updated)

    def _fetch(self, payload: bytes) -> bytes:
        wanted = frames.decode_fetch(payload)
        if isinstance(wanted, int):
            body = self.intake.body(wanted)
            return frames.encode(Kind.ABSENT) if body is None else frames.encode_body(body)
        page = self.intake.page(wanted)
        return frames.encode(Kind.ABSENT) if page is None else frames.encode_page(*page)


_HANDLERS: Final[Mapping[State, Mapping[Kind, Callable[[Receiver, bytes], bytes]]]] = {
    State.NEW: {Kind.HELLO: Receiver._hello},
    State.GREETED: {Kind.BEGIN: Receiver._begin},
    State.TAKING: {
        Kind.PAGES: Receiver._pages,
        Kind.BODIES: Receiver._bodies,
        Kind.PAGE: Receiver._page,
        Kind.BODY: Receiver._body,
        Kind.END: Receiver._end,
    },
    State.FETCHING: {Kind.FETCH: Receiver._fetch},
    State.OVER: {},
}
"""What may come when; anything else ends the connection."""
