"""aiosmtpd with none, one and three filters: as functions in its handler, and as HTTP hooks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.filters.fronts import COUNTS, NO_FILTER, Front, Fronts, Key, Stage
from benchmarks.mail.smtp import has_aiosmtpd
from benchmarks.peers.process import PeerMissing, ServerProcess, free_port

SERVER: Final = "aiosmtpd"
FUNCTION: Final = "function"
HOOK: Final = "http-hook"
KEYS: Final = (
    Key(SERVER, NO_FILTER, 0),
    *(Key(SERVER, form, count) for form in (FUNCTION, HOOK) for count in COUNTS),
)
NO_AIOSMTPD: Final = "aiosmtpd is not installed; `make setup` installs it"


def bring(stage: Stage, found: Fronts) -> None:
    """Start a server for each of `KEYS` that is wanted.

    Raises:
        PeerMissing: aiosmtpd is not installed.
    """
    if not has_aiosmtpd():
        raise PeerMissing(NO_AIOSMTPD)
    directory = stage.place("aiosmtpd")
    hooks: list[_Hook] = []
    for key in KEYS:
        if key not in found.wanted:
            continue
        if key.form != HOOK:
            flags = ["--functions", str(key.filters), str(stage.library)]
            _serve(stage, found, directory, key, flags)
            continue
        hooks += [_Hook(stage, directory, number) for number in range(len(hooks), key.filters)]
        _serve_with_hooks(stage, found, directory, key, hooks[: key.filters])


def _serve_with_hooks(stage: Stage, found: Fronts, directory: Path, key: Key, hooks: Sequence[_Hook]) -> None:
    flags = [word for hook in hooks for word in ("--hook", str(hook.port))]
    front = _serve(stage, found, directory, key, flags, [hook.process for hook in hooks])
    for hook in hooks:
        found.tallies.setdefault(hook.tally_file, ([], True))[0].append(front)


class _Hook:
    """One service that is posted messages."""

    def __init__(self, stage: Stage, directory: Path, number: int) -> None:
        self.port = free_port()
        self.tally_file = directory / f"hook-{number}.tally"
        command = [sys.executable, "-m", "benchmarks.filters.hook_service", str(self.port)]
        command += [str(self.tally_file), str(stage.library)]
        self.process = stage.start(ServerProcess(f"hook-{number}", command, directory, [self.port]))


def _serve(
    stage: Stage,
    found: Fronts,
    directory: Path,
    key: Key,
    flags: Sequence[str],
    filters: Sequence[ServerProcess] = (),
) -> Front:
    name, port = f"{SERVER}-{key.form}-{key.filters}", free_port()
    tally_file = directory / f"{name}.tally"
    command = [sys.executable, "-m", "benchmarks.filters.aiosmtpd_server", str(port), str(tally_file), *flags]
    process = stage.start(ServerProcess(name, command, directory, [port]))
    front = Front(key, port, [process, *filters])
    found.running.append(front)
    found.tallies[tally_file] = ([front], key.form != NO_FILTER)
    return front
