"""The mirror over real sockets: certificates, silence, broken and half-open connections, throttling."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from spinrt.errors import CorruptRecord, PeerFailed, StateError
from spinrt.mail.tls import pinned_pair
from spinrt.storage.mirror import link
from spinrt.storage.mirror.link import Identity, LinkServer, fingerprint, load_certificate, make_context, run_client
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.sender import Sender
from tests.storage.mirror_support import Primary, Secondary, content, digests_of


@dataclass
class Side:
    identity: Identity
    certificate: bytes


@dataclass
class Peer:
    """Counts what the server takes and gives back."""

    secondary: Secondary
    open: int = 0
    ended: list[BaseException | None] = field(default_factory=list)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self) -> Receiver:
        self.open += 1
        return self.secondary.receiver()

    async def end(self, receiver: Receiver | None, error: BaseException | None) -> None:
        self.open -= 1
        self.ended.append(error)
        self.has_ended.set()


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Side]:
    directory = tmp_path_factory.mktemp("pairs")

    def side(name: str) -> Side:
        identity = Identity(*pinned_pair(directory / name, name))
        return Side(identity, load_certificate(identity.certificate))

    return side


Sides = Callable[[str], Side]


@asynccontextmanager
async def serving(peer: Peer, own: Side, *pinned: Side, silence_s: float = 5.0) -> AsyncIterator[int]:
    context = make_context(own.identity, [one.certificate for one in pinned], server=True)
    server = LinkServer(context, {fingerprint(one.certificate): peer for one in pinned}, silence_s=silence_s)
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await server.close()


async def send(sender: Sender, port: int, own: Side, pinned: Side, **settings: float) -> None:
    context = make_context(own.identity, [pinned.certificate], server=False)
    await run_client(sender, "127.0.0.1", port, context, pinned.certificate, **settings)


def test_an_update_goes_over_tls(sides: Sides) -> None:
    primary, secondary = Primary(), Secondary()
    names = [primary.log.add(b"body %d" % number * 100) for number in range(200)]
    target = primary.snapshot({"index": content([b"%d" % n for n in range(300)])}, names)
    peer = Peer(secondary)

    async def run() -> Sender:
        async with serving(peer, sides("mirror"), sides("source")) as port:
            sender = primary.sender(target)
            await send(sender, port, sides("source"), sides("mirror"))
            again = primary.sender(target)
            await send(again, port, sides("source"), sides("mirror"))
            assert not again.moved
            return sender

    sender = asyncio.run(run())

    assert secondary.standing().current == target.identity
    assert secondary.log.bodies == primary.log.bodies
    assert sender.traffic.pages_moved == len(digests_of(primary.pages, target))
    assert peer.open == 0
    assert peer.ended == [None, None]


def test_a_source_that_is_not_pinned_gets_nowhere(sides: Sides) -> None:
    primary, peer = Primary(), Peer(Secondary())

    async def run() -> None:
        async with serving(peer, sides("mirror"), sides("source")) as port:
            await send(primary.sender(primary.snapshot({"a": b"a"})), port, sides("stranger"), sides("mirror"))

    with pytest.raises(PeerFailed):
        asyncio.run(run())

    assert peer.ended == []


def test_a_mirror_that_is_not_pinned_gets_nothing(sides: Sides) -> None:
    primary, secondary = Primary(), Secondary()

    async def run() -> None:
        async with serving(Peer(secondary), sides("stranger"), sides("source")) as port:
            await send(primary.sender(primary.snapshot({"a": b"a"})), port, sides("source"), sides("mirror"))

    with pytest.raises(PeerFailed, match="cannot be reached"):
        asyncio.run(run())

    assert not secondary.pages.committed


def test_no_certificate_and_older_tls_are_refused(sides: Sides) -> None:
    peer = Peer(Secondary())

    async def run(context: ssl.SSLContext) -> None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        async with serving(peer, sides("mirror"), sides("source")) as port:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(b"x" * 100)
                async with asyncio.timeout(5):
                    assert await reader.read(10) == b""
                writer.close()
            except OSError:
                pass

    asyncio.run(run(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(sides("source").identity.certificate, sides("source").identity.key)
    asyncio.run(run(old))

    assert peer.ended == []


def test_what_the_mirror_refuses_is_told_in_its_words(sides: Sides) -> None:
    primary, secondary = Primary(), Secondary()
    target = primary.snapshot({"a": b"a"})
    primary.log.start = secondary.log.start

    async def run() -> None:
        async with serving(Peer(secondary), sides("mirror"), sides("source")) as port:
            await send(primary.sender(target), port, sides("source"), sides("mirror"))

    with pytest.raises(StateError, match="the other side: mirror: its own log has generation 9"):
        asyncio.run(run())


def test_damage_at_the_source_is_told_to_the_mirror(sides: Sides) -> None:
    primary, peer = Primary(), Peer(Secondary())
    target = primary.snapshot({"a": content([b"a", b"b"])})
    primary.pages.broken |= digests_of(primary.pages, target)

    async def run() -> None:
        async with serving(peer, sides("mirror"), sides("source")) as port:
            with pytest.raises(CorruptRecord):
                await send(primary.sender(target), port, sides("source"), sides("mirror"))
            await peer.has_ended.wait()

    asyncio.run(run())

    assert isinstance(peer.ended[0], CorruptRecord)
    assert not peer.secondary.pages.committed


def test_silence_is_not_waited_for(sides: Sides) -> None:
    """A half-open connection, before and after its handshake, gives its slot back."""
    peer = Peer(Secondary())

    async def run() -> None:
        async with serving(peer, sides("mirror"), sides("source"), silence_s=0.3) as port:
            context = make_context(sides("source").identity, [sides("mirror").certificate], server=False)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            async with asyncio.timeout(10):
                assert await reader.read(10) == b""
            writer.close()

    asyncio.run(run())

    assert peer.open == 0
    assert isinstance(peer.ended[0], TimeoutError)


def test_a_handshake_that_does_not_come_is_not_waited_for(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STRANGER_S", 0.3)

    async def run() -> None:
        async with serving(Peer(Secondary()), sides("mirror"), sides("source")) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(10):
                assert await reader.read(10) == b""
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("bound", ["STRANGERS_MAX", "ADDRESS_STRANGERS_MAX"])
def test_silent_strangers_do_not_keep_a_pinned_source_out(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """The oldest of those that say nothing makes room for who comes."""
    monkeypatch.setattr(link, bound, 2)

    async def run() -> None:
        async with serving(Peer(Secondary()), sides("mirror"), sides("source")) as port:
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await send(primary.sender(target), port, sides("source"), sides("mirror"))
            dropped = [reader.at_eof() or await ended(reader) for reader, _ in held[:2]]
            assert dropped == [True, True]
            for _, one in held:
                one.close()

    primary = Primary()
    target = primary.snapshot({"a": b"a"})
    asyncio.run(run())


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection at once, well before a stranger's time is over."""
    try:
        async with asyncio.timeout(link.STRANGER_S / 2):
            return await reader.read(10) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_a_pinned_peer_has_so_many_connections_and_no_more(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "PEER_CONNECTIONS_MAX", 0)
    primary, peer = Primary(), Peer(Secondary())

    async def run() -> None:
        async with serving(peer, sides("mirror"), sides("source")) as port:
            with pytest.raises(PeerFailed):
                await send(primary.sender(primary.snapshot({"a": b"a"})), port, sides("source"), sides("mirror"))

    asyncio.run(run())
    assert peer.ended == []


def test_a_mirror_that_is_not_there_is_a_matter_of_trying_again(sides: Sides) -> None:
    primary = Primary()

    with pytest.raises(PeerFailed, match="cannot be reached") as caught:
        asyncio.run(send(primary.sender(primary.snapshot({"a": b"a"})), 1, sides("source"), sides("mirror")))

    assert caught.value.retry


def test_an_update_keeps_to_its_rate(sides: Sides) -> None:
    """Measured by what the bucket asks to wait, not by a clock: 1 MB at 10 MB/s is 0.1 s of waiting."""
    from spinrt.storage.mirror.throttle import Throttle

    throttle = Throttle(10_000_000, 0.0)
    waited = now = 0.0
    for _ in range(10):
        wait = throttle.spend(100_000, now)
        waited += wait
        now += wait

    assert waited == pytest.approx(0.09)
    assert throttle.spend(1, now + 100.0) == 0.0
    assert Throttle(None, 0.0).spend(10**12, 0.0) == 0.0
