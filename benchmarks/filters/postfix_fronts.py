"""Postfix with none, one and three filters of each form that it knows: milters and policy services; and rspamd.

One Postfix, with one port for each. Filters listen on Unix sockets, which are the faster of the two ways that Postfix
has to them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.filters import building
from benchmarks.filters.fronts import COUNTS, NO_FILTER, Front, Fronts, Key, Stage, having
from benchmarks.peers.postfix import Postfix
from benchmarks.peers.process import PeerFailed, PeerMissing, ServerProcess
from benchmarks.peers.rspamd import Rspamd

SERVER: Final = "postfix"
NOOP_MILTER: Final = "noop-milter"
MILTER: Final = "milter"
PYMILTER: Final = "pymilter"
POLICY: Final = "policy-service"
RSPAMD: Final = "rspamd"
FORMS: Final = (NOOP_MILTER, MILTER, PYMILTER, POLICY)
KEYS: Final = (
    Key(SERVER, NO_FILTER, 0),
    *(Key(SERVER, form, count) for form in FORMS for count in COUNTS),
    Key(SERVER, RSPAMD, 1),
)
PYTHONS: Final = (sys.executable, "/usr/bin/python3")
NO_PYMILTER: Final = "pymilter is not installed; benchmarks/install-peers installs it (Debian, root)"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the filter.

    Attributes:
        name: Of the form.
        command: From socket and tally file to the command that runs one.
        setting: From the sockets of those that stand behind each other to Postfix's setting.
        judges: Whether it decides of messages as the filter does.
    """

    name: str
    command: Callable[[Path, Path], Sequence[str]]
    setting: Callable[[Sequence[Path]], str]
    judges: bool = True


@dataclass(slots=True)
class Listener:
    """One port of Postfix to be: what stands behind it."""

    key: Key
    setting: str = ""
    processes: Sequence[ServerProcess] = ()
    tallies: Sequence[Path] = ()
    judges: bool = False

    @property
    def name(self) -> str:
        return f"{self.key.form}-{self.key.filters}"


@dataclass(slots=True)
class _Bringing:
    stage: Stage
    directory: Path
    found: Fronts
    listeners: list[Listener] = field(default_factory=list)


def bring(stage: Stage, found: Fronts) -> None:
    """Start the filters that are wanted, then Postfix in front of them.

    Raises:
        PeerMissing: There is no Postfix, or it cannot be started.
    """
    Postfix.check_available()
    directory = stage.place("filters")
    directory.chmod(0o755)
    bringing = _Bringing(stage, directory, found, [Listener(Key(SERVER, NO_FILTER, 0))])
    for name in FORMS:
        having(found, f"{SERVER}/{name}", partial(_bring_form, bringing, name))
    having(found, f"{SERVER}/{RSPAMD}", partial(_bring_rspamd, bringing))
    _bring_postfix(bringing)


def _bring_postfix(bringing: _Bringing) -> None:
    stage, found = bringing.stage, bringing.found
    listeners = [listener for listener in bringing.listeners if listener.key in found.wanted]
    place = stage.place("postfix")
    place.chmod(0o755)
    settings = {listener.name: [listener.setting] if listener.setting else [] for listener in listeners}
    postfix = Postfix(place, settings)
    stage.await_started()  # Postfix asks its milters as soon as somebody connects
    stage.start(postfix.process)
    fronts = []
    for listener in listeners:
        port, processes = postfix.ports[listener.name], [postfix.process, *listener.processes]
        front = Front(listener.key, port, processes, postfix.drain)
        fronts.append(front)
        for tally in listener.tallies:
            found.tallies.setdefault(tally, ([], listener.judges))[0].append(front)
    found.running += fronts
    found.versions["Postfix"] = postfix.version
    found.checks.append(partial(_check_sent, postfix, fronts))


def _bring_form(bringing: _Bringing, name: str) -> None:
    stage, directory = bringing.stage, bringing.directory
    form = _form(stage, name)
    sockets = [directory / f"{name}-{number}.sock" for number in range(1, max(COUNTS) + 1)]
    tallies = [socket.with_suffix(".tally") for socket in sockets]
    processes = [
        stage.start(ServerProcess(socket.stem, form.command(socket, tally), directory, [socket], knock=True))
        for socket, tally in zip(sockets, tallies, strict=True)
    ]
    bringing.listeners += [
        Listener(
            Key(SERVER, name, count), form.setting(sockets[:count]), processes[:count], tallies[:count], form.judges
        )
        for count in COUNTS
    ]


def _bring_rspamd(bringing: _Bringing) -> None:
    stage, found = bringing.stage, bringing.found
    rspamd = Rspamd(stage.place(RSPAMD))
    process = stage.start(rspamd.process)
    stage.await_started()
    rspamd.settle()
    bringing.listeners.append(Listener(Key(SERVER, RSPAMD, 1), _milters([rspamd.socket]), [process]))
    found.versions["rspamd"] = rspamd.version
    found.checks.append(partial(_check_scanned, rspamd, found))


def _form(stage: Stage, name: str) -> Form:
    """Compile or find what runs it. PeerMissing: it cannot be had."""
    directory, library = stage.directory, str(stage.library)
    if name in (NOOP_MILTER, MILTER):
        program = building.noop_milter(directory) if name == NOOP_MILTER else building.milter(directory)
        return Form(name, lambda socket, tally: [str(program), *_at(socket, tally)], _milters, name == MILTER)
    if name == PYMILTER:
        python = [python_with_pymilter(), "-m", "benchmarks.filters.python_milter"]
        return Form(name, lambda socket, tally: [*python, *_at(socket, tally), library], _milters)
    service = [sys.executable, "-m", "benchmarks.filters.policy_service"]
    return Form(name, lambda socket, tally: [*service, str(socket), str(tally), library], _policies, judges=False)


def _at(socket: Path, tally: Path) -> list[str]:
    return [f"unix:{socket}", str(tally)]


def _milters(sockets: Sequence[Path]) -> str:
    return "smtpd_milters=" + ",".join(f"unix:{socket}" for socket in sockets)


def _policies(sockets: Sequence[Path]) -> str:
    asked = "".join(f"check_policy_service,unix:{socket}," for socket in sockets)
    return f"smtpd_recipient_restrictions={asked}permit_mynetworks,reject"


def python_with_pymilter() -> str:
    """Ours, or Debian's own, which Debian's package is for.

    Raises:
        PeerMissing: None of them has it.
    """
    for python in PYTHONS:
        command = [python, "-c", "import Milter"]
        if Path(python).exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return python
    raise PeerMissing(NO_PYMILTER)


def _check_sent(postfix: Postfix, fronts: Sequence[Front]) -> None:
    found, expected = postfix.sent(), sum(front.sent for front in fronts)
    if found != expected:
        raise PeerFailed(f"postfix: accepted {expected} messages, sent on {found}")


def _check_scanned(rspamd: Rspamd, found: Fronts) -> None:
    scanned, expected = rspamd.scanned(), sum(front.sent for front in found.running if front.key.form == RSPAMD)
    if scanned != expected:
        raise PeerFailed(f"rspamd: was given {expected} messages, scanned {scanned}")
