"""The mirror's side: directories kept for other mail systems, and the listener that their updates come to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from spinrt import trace
from spinrt.errors import ConfigError, SpinError, StorageError
from spinrt.mail.config import Config
from spinrt.mail.config_mirror import IDENTITY_NAME, MirrorSource
from spinrt.mail.listen import listen_tcp
from spinrt.mail.store.contents import unfit_bodies
from spinrt.mail.store.mirrored import judge, open_mirror
from spinrt.mail.store.thinning import thin_out
from spinrt.mail.store.witness import snapshots_on
from spinrt.storage.datadir import PAGES_NAME
from spinrt.storage.mirror.book import FileBook, Standing
from spinrt.storage.mirror.directory import MirrorDirectory, check_mirror_place
from spinrt.storage.mirror.link import Identity, LinkServer, fingerprint, in_thread, load_certificate, make_context
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.protocols import Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.snapshot import in_order

CERTIFICATE_NAME: Final = "certificate.pem"
KEY_NAME: Final = "key.pem"

_LOG = trace.component("mirror")


def identity_directory(config: Config) -> Path:
    """Where this side's certificate and key for mirroring are."""
    return config.mirror.identity or config.file.parent / IDENTITY_NAME


def own_identity(config: Config) -> Identity:
    """Return this side's certificate and key; whether they are any good shows when they are used."""
    directory = identity_directory(config)
    return Identity(directory / CERTIFICATE_NAME, directory / KEY_NAME)


def check_mirrors(config: Config) -> None:
    """Check all of the section ``mirror`` that is only known by looking; nothing is made, locked or changed.

    Raises:
        ConfigError: What is there does not go together; certificates; a directory that cannot be used.
        StateError: A directory has mail of its own.
        StorageError: A mirror's book cannot be read.
    """
    mirror = config.mirror
    if (mirror.listen is None) != (not mirror.sources):
        there, missing = ("mirror.sources", "mirror.listen") if mirror.sources else ("mirror.listen", "mirror.sources")
        raise ConfigError(f"{config.shown}: {there} without {missing}: nothing would be kept here", hint="set both")
    _check_directories(config)
    pinned = list(_source_certificates(config).values())
    pinned += [load_certificate(one.certificate) for one in mirror.targets.values() if one.certificate is not None]
    if pinned:
        make_context(own_identity(config), pinned, server=bool(mirror.sources))


def _check_directories(config: Config) -> None:
    mirror = config.mirror
    named = {f"mirror.sources.{name}": one.directory for name, one in mirror.sources.items()}
    targets = {f"mirror.targets.{name}": one.directory for name, one in mirror.targets.items() if one.directory}
    for name, directory in (named | targets).items():
        if directory.resolve() == config.data_directory.resolve():
            raise ConfigError(f"{config.shown}: {name}: {directory} is the data directory itself")
    for directory in named.values():
        check_mirror_place(directory)


def _source_certificates(config: Config) -> dict[str, bytes]:
    """The certificate of each source, in DER."""
    pinned = {name: load_certificate(source.certificate) for name, source in config.mirror.sources.items()}
    if len(set(pinned.values())) < len(pinned):
        raise ConfigError(
            f"{config.shown}: mirror.sources: two files hold the same certificate", hint="each source needs its own"
        )
    return pinned


class KeptMirror:
    """The mirror of one source. Implements ``link.Peer``."""

    def __init__(self, name: str, source: MirrorSource, directory: MirrorDirectory) -> None:
        self.name = name
        self.directory = directory
        self.updates = self.failures = self.received_bytes = 0
        self._source = source

    async def begin(self) -> Receiver:
        return self.directory.receiver(judge, self._source.update_bytes_max, contents=unfit_bodies)

    async def end(self, receiver: Receiver | None, error: BaseException | None) -> None:
        if receiver is not None:
            self.received_bytes += receiver.traffic.received_bytes
            if receiver.updated is not None:
                await self._prune()
        self.directory.end(receiver)
        if error is not None:
            self.failures += isinstance(error, SpinError)
        elif receiver is not None and receiver.updated is not None:
            self.updates += 1
            traffic = receiver.traffic
            trace.log(
                _LOG, logging.INFO, "took update", source=self.name, snapshot=receiver.updated.hex()[:12],
                received=traffic.received_bytes, pages=traffic.pages_moved, bodies=traffic.bodies_moved,
            )  # fmt: skip

    async def _prune(self) -> None:
        """Delete what is due; what cannot be deleted now is due again after the next update."""
        try:
            gone = await in_thread(thin_out, self.directory, self._source.keep)
        except StorageError as error:
            trace.log(_LOG, logging.WARNING, "not thinned out", source=self.name, reason=error.line())
        else:
            trace.log(
                _LOG,
                logging.DEBUG,
                "thinned out",
                source=self.name,
                snapshots=gone.snapshots,
                log=gone.log.bytes,
            )

    def describe(self) -> dict[str, Any]:
        counts = {"updates": self.updates, "failures": self.failures, "received_bytes": self.received_bytes}
        directory = self.directory
        described = describe_mirror(directory.data.path, directory.book.read(), directory.pages.snapshots())
        return {"source": self.name, **described, **counts}


def describe_mirrors(config: Config) -> list[dict[str, Any]]:
    """The mirrors that a configuration lists, as their files say, whoever has them open."""
    described = []
    for name, source in config.mirror.sources.items():
        snapshots = in_order(snapshots_on(ReadOnlyDevice(source.directory / PAGES_NAME)))
        book = FileBook(source.directory).read()
        described.append({"source": name, **describe_mirror(source.directory, book, snapshots)})
    return described


def describe_mirror(path: Path, book: Standing, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """A mirror as JSON: what it has, since when; what was set aside, and why. Times are seconds since 1970-01-01 UTC.

    Args:
        book: As it was read.
        snapshots: All of the mirror.
    """
    standing = book.settled({one.identity for one in snapshots})
    current = next((one for one in snapshots if one.identity == standing.current), None)
    return {
        "directory": str(path),
        "snapshots": len(snapshots),
        "aside": [_describe_aside(one, standing) for one in snapshots if one.identity in standing.aside],
        "resync": standing.resync,
        "updated_s": standing.updated_ns / 1e9,
        "last": standing.last,
        "snapshot": current and current.identity.hex(),
        "snapshot_s": current and current.time_ns / 1e9,
    }


def _describe_aside(snapshot: Snapshot, standing: Standing) -> dict[str, Any]:
    return {
        "snapshot": snapshot.identity.hex(),
        "label": snapshot.label,
        "taken_s": snapshot.time_ns / 1e9,
        "aside_s": standing.left.get(snapshot.identity, 0) / 1e9,
        "reason": "has changes that the source followed since `spinrt mirror resync` never had",
    }


class MirrorServer:
    """Keeps the mirrors that a configuration lists, if any. `start` and `close` once each, on one event loop."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._link: LinkServer | None = None
        self._server: asyncio.Server | None = None
        self.kept: dict[str, KeptMirror] = {}

    @property
    def sockets(self) -> tuple[Any, ...]:
        """Where it listens."""
        return () if self._server is None else self._server.sockets

    async def start(self) -> None:
        """Open every directory, then listen; on failure everything is closed again.

        Raises:
            ConfigError: As `check_mirrors`; or where to listen.
            Busy, DataLocked: Somebody else listens there, or holds a directory.
            StateError: A directory has mail of its own.
            StorageError: A directory cannot be read.
        """
        mirror = self._config.mirror
        check_mirrors(self._config)
        assert mirror.listen is not None
        pinned = _source_certificates(self._config)
        context = make_context(own_identity(self._config), list(pinned.values()), server=True)
        try:
            for name, source in mirror.sources.items():
                directory = await in_thread(open_mirror, source.directory)
                self.kept[name] = KeptMirror(name, source, directory)
            peers: Mapping[bytes, KeptMirror] = {fingerprint(one): self.kept[name] for name, one in pinned.items()}
            self._link = LinkServer(context, peers)
            self._server = await listen_tcp(self._link.protocol, mirror.listen.host, mirror.listen.port)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Take no more, end what is under way, close the directories."""
        if self._server is not None:
            self._server.close()
        if self._link is not None:
            await self._link.close()
        for one in self.kept.values():
            await in_thread(one.directory.close)
        self.kept = {}

    def describe(self) -> list[dict[str, Any]]:
        return [one.describe() for one in self.kept.values()]
