"""spinrt with none, one and three of the filter as extensions: servers, and deliveries without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from benchmarks.filters import building
from benchmarks.filters.fronts import COUNTS, NO_FILTER, Front, Fronts, Key, Stage
from benchmarks.filters.library import SUSPECT
from benchmarks.mail.delivering import Delivering
from benchmarks.peers.imap_client import ImapClient
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.spinrt_server import PASSWORD, USER, SpinrtServer
from spinrt.mail.config import load
from spinrt.sandbox.manifest import Manifest

SERVER: Final = "spinrt"
FORM: Final = "extension"
NAMES: Final = tuple(f"filter-{number}" for number in range(1, max(COUNTS) + 1))
KEYS: Final = (Key(SERVER, NO_FILTER, 0), *(Key(SERVER, FORM, count) for count in COUNTS))
_FIELDS: Final = tuple(map(building.added_field, NAMES))
_FETCH_FIELDS: Final = f"FETCH 1:* BODY.PEEK[HEADER.FIELDS ({' '.join(_FIELDS)})]".encode()


class SpinrtFronts:
    """The extensions, built when they are first needed; servers with so many of them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @cached_property
    def _places(self) -> dict[str, Path]:
        return building.extensions(self._stage.place("extensions"), NAMES)

    def bring(self, found: Fronts) -> None:
        """Start a server for each of `KEYS` that is wanted."""
        for key in KEYS:
            if key not in found.wanted:
                continue
            server = self._server(f"spinrt-{key.filters}", key.filters)
            front = Front(key, server.smtp_port, [self._stage.start(server.process)])
            found.running.append(front)
            found.checks.append(partial(_check, server, front))

    def deliveries(self, contents: Sequence[bytes]) -> dict[int, Delivering]:
        """Deliveries of these messages without a server, by how many of the extensions take part.

        Raises:
            InternalError: One of them does not.
        """
        made = {}
        for count in (0, *COUNTS):
            configured = load(self._server(f"deliveries-{count}", count).configuration).extensions
            made[count] = Delivering(configured, contents)
            made[count].calls(NAMES[:count])
        return made

    def _server(self, place: str, count: int) -> SpinrtServer:
        extensions = {name: _granted(self._places[name]) for name in NAMES[:count]}
        return SpinrtServer(self._stage.place(place), loop=self._stage.loop, extensions=extensions)


def _granted(place: Path) -> Mapping[str, Any]:
    """The extension in that directory, with all that its manifest asks for."""
    manifest = Manifest.read(place / "manifest.yaml")
    return {"path": str(place), "grants": {wanted.interface: {} for wanted in manifest.imports}}


def _check(server: SpinrtServer, front: Front) -> None:
    """Every message lies in a mailbox and bears what every filter found.

    Raises:
        PeerFailed: One does not.
    """
    if not front.sent:
        return
    with ImapClient(server.imap_port, USER, PASSWORD) as client:
        arrived = client.select("INBOX")
        fields = client.command(_FETCH_FIELDS)
    marks, suspects = (
        sum(fields.count(f"\n{field}: {answer}".encode()) for field in _FIELDS) for answer in ("", SUSPECT.decode())
    )
    found = (arrived, marks, suspects)
    expected = (front.sent, front.key.filters * front.sent, front.key.filters * front.suspects)
    if found != expected:
        raise PeerFailed(f"{front.key.name}: found {found} messages, marks and marks as suspect, expected {expected}")
