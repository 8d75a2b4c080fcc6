"""The demo's server: the real mail service in a process of its own, and how the demo starts, hears and stops it.

The child is ``python -m spinrt.cli.demo_server CONFIG``. It writes one JSON object a line to its standard output: first
``{"ready": {"smtp": PORT, "imap": PORT}}``, then ``{"report": {...}}`` for each transaction (`DeliveryReport`). It
stops when its standard input ends, so that nothing is left running however the demo ends. It has a session of its own:
a Ctrl-C at the terminal reaches only the demo, which then stops it in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinrt import trace
from spinrt.cli.demo_client import Target
from spinrt.cli.demo_config import FILE_NAME, LOG_NAME, certificate
from spinrt.errors import SpinError, StateError
from spinrt.mail.config import Config, load
from spinrt.mail.config_values import TcpEndpoint
from spinrt.mail.report import DeliveryReport, ExtensionReport
from spinrt.mail.service import loop_factory, running

STOP_TIMEOUT_S = 30.0


class DemoServer:
    """A running server. Use it as a context manager, or call `stop`."""

    def __init__(self, process: subprocess.Popen[bytes], target: Target, on_report: Callable[[DeliveryReport], None]):
        self.target = target
        self._process = process
        self._reader = threading.Thread(target=self._read_reports, args=(on_report,), name="demo-reports", daemon=True)
        self._reader.start()

    @classmethod
    def start(cls, directory: Path, on_report: Callable[[DeliveryReport], None]) -> DemoServer:
        """Start a server with the configuration in the directory, and wait until it listens.

        Args:
            directory: What `write_config` wrote; the server's log goes there too.
            on_report: Called with each transaction, on a thread of its own; all of them before `stop` returns.

        Raises:
            StateError: It did not start; the message is the last line of its log.
        """
        with (directory / LOG_NAME).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "spinrt.cli.demo_server", str(directory / FILE_NAME)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            assert process.stdout is not None
            ports = json.loads(process.stdout.readline() or b"{}").get("ready")
            if ports is None:
                raise StateError(f"demo: the server did not start: {_last_line(directory / LOG_NAME)}")
        except BaseException:
            _end(process)
            raise
        return cls(process, Target(ports["smtp"], ports["imap"], certificate(directory)), on_report)

    def stop(self) -> None:
        """Let the server drain and end, by force if it must be; then all reports are in. May be called twice."""
        _end(self._process, self._reader)

    def __enter__(self) -> DemoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read_reports(self, on_report: Callable[[DeliveryReport], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            on_report(report_from_json(json.loads(line)["report"]))


def _end(process: subprocess.Popen[bytes], reader: threading.Thread | None = None) -> None:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if reader is not None:
        reader.join()
    process.stdout.close()


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def report_from_json(content: dict[str, Any]) -> DeliveryReport:
    """Make a report from what `dataclasses.asdict` and JSON made of it."""
    extensions = {name: ExtensionReport(**part) for name, part in content.pop("extensions").items()}
    placed = tuple((user, mailbox, uid) for user, mailbox, uid in content.pop("placed"))
    sequences = {key: tuple(value) for key, value in content.items() if isinstance(value, list)}
    return DeliveryReport(**(content | sequences), extensions=extensions, placed=placed)


# --------------------------------------------------------------------------------------------------------- the child


async def _serve_until_input_ends(config: Config) -> None:
    async with running(config) as service:
        service.observers.append(lambda report: _write({"report": dataclasses.asdict(report)}))
        _write({"ready": {name: at.port for name, at in service.endpoints.items() if isinstance(at, TcpEndpoint)}})
        await asyncio.to_thread(sys.stdin.buffer.read)


def _write(content: dict[str, Any]) -> None:
    """Tell the demo; when it is gone, the end of our input stops the server."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.buffer.write(json.dumps(content).encode() + b"\n")
        sys.stdout.buffer.flush()


def main() -> int:
    """Serve the configuration named on the command line until standard input ends."""
    try:
        config = load(Path(sys.argv[1]))
        trace.setup(level=config.logging.level)
        with asyncio.Runner(loop_factory=loop_factory(config.event_loop)) as runner:
            runner.run(_serve_until_input_ends(config))
    except SpinError as error:
        print(error.line(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
