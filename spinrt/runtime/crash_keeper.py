"""Taking crash records while things run, and keeping a bounded number of them in a directory.

A record is *taken* at once, on the runtime's thread, as what was passed is there only then: the fault is run once more
under recording (`rerun`). It is *written* on a thread: encoded, compressed, to a temporary name, synced, renamed, and
the directory synced. Whatever goes wrong costs the record, never the raise.

Names are ``<UTC time>-<extension>-<number>.crash``; they sort by time. The directory belongs to its owner alone.

Source: docs/design/supervisor.md, "Crash records".
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import re
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spinrt._core import Call, Instance
from spinrt.clock import Clock, SystemClock
from spinrt.errors import ConfigError, Killed, QuotaExceeded, SpinError
from spinrt.runtime.crash import MEMORY_BYTES_MAX, About, CrashRecord, Image, Outcome, encode_record
from spinrt.runtime.entry import NO_CLOSURE
from spinrt.runtime.monitor import moment
from spinrt.runtime.rerun import Numbers, Recorder, encode_all, read_state, run_once, write_state

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain

SUFFIX: Final = ".crash"
WAITING_MAX: Final = 4
"""Records that may wait to be written; more are dropped."""
_NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{3}Z-(?P<extension>[a-z0-9-]+)-\d+\.crash\Z")
_log = logging.getLogger("spinrt.runtime")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Attributes:
        pause_s: At least so long between two records of one extension.
        count_each, count_all: Records of one extension, and of all.
        bytes_each, bytes_all: Bytes of their files.
    """

    pause_s: float = 10.0
    count_each: int = 8
    count_all: int = 64
    bytes_each: int = 64 << 20
    bytes_all: int = 256 << 20


class CrashKeeper:
    """Records faults of one runtime; give it to `Runtime.keep_crashes`.

    Args:
        directory: Where records go; made if need be, for its owner alone.
        bounds: How much is kept.
        clock: For the rate and for names.

    Attributes:
        dropped: Records that were not written: too many waited, or something went wrong.

    Raises:
        ConfigError: The directory cannot be used.
    """

    def __init__(self, directory: Path, *, bounds: Bounds = Bounds(), clock: Clock | None = None) -> None:
        self.directory = directory
        self.dropped = 0
        self._bounds = bounds
        self._clock = clock or SystemClock()
        self._last_s: dict[str, float] = {}
        self._is_taking = False
        self._number = 0
        self._queue: queue.Queue[CrashRecord | None] = queue.Queue(WAITING_MAX)
        self._thread: threading.Thread | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
        except OSError as error:
            raise ConfigError(
                f"crash records {directory}: {error.strerror}", hint="choose another directory"
            ) from error

    def take(self, domain: Domain, event: str, error: SpinError) -> None:
        """Record a fault of a handler, unless the last one was too short ago. Never raises an `Exception`."""
        now_s = self._clock.monotonic_s()
        last_s = self._last_s.get(domain.name)
        if self._is_taking or isinstance(error, Killed):
            return
        if last_s is not None and now_s - last_s < self._bounds.pause_s:
            return
        self._last_s[domain.name] = now_s
        self._is_taking = True
        try:
            self._hand_over(capture(domain, event, error, self._clock))
        except Exception as problem:
            self._drop(domain.name, problem)
        finally:
            self._is_taking = False

    def close(self) -> None:
        """Write what waits, and end. Closing twice does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _drop(self, name: str, problem: object) -> None:
        self.dropped += 1
        _log.error("extension=%s event=crash-record-failed reason=%r", name, str(problem))

    # ------------------------------------------------------------------------------------------------------- writing

    def _hand_over(self, record: CrashRecord) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="spinrt-crash-records", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._drop(record.about.extension, f"{WAITING_MAX} records wait to be written")

    def _write_all(self) -> None:
        while (record := self._queue.get()) is not None:
            try:
                path = self._write(record)
                self._prune(record.about.extension)
                _log.warning("extension=%s event=crash-record file=%s", record.about.extension, path)
            except Exception as problem:
                self._drop(record.about.extension, problem)

    def _write(self, record: CrashRecord) -> Path:
        data = encode_record(record)
        stamp = record.about.time.replace("-", "").replace(":", "")
        self._number += 1
        path = self.directory / f"{stamp}-{record.about.extension}-{self._number}{SUFFIX}"
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._sync_directory()
        return path

    def _sync_directory(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _prune(self, extension: str) -> None:
        """Remove the oldest until the bounds hold, first those of the extension, then of all."""
        bounds = self._bounds
        kept = list_records(self.directory)
        own = [path for path in kept if _extension_of(path) == extension]
        gone = set(_too_many(own, bounds.count_each, bounds.bytes_each))
        kept = [path for path in kept if path not in gone]
        for path in (*gone, *_too_many(kept, bounds.count_all, bounds.bytes_all)):
            path.unlink(missing_ok=True)


def list_records(directory: Path) -> list[Path]:
    """Return the records in a directory, the oldest first; other files are nobody's business."""
    return sorted(path for path in directory.iterdir() if _NAME.match(path.name))


def _extension_of(path: Path) -> str:
    found = _NAME.match(path.name)
    return found["extension"] if found else ""


def _too_many(paths: Iterable[Path], count_max: int, bytes_max: int) -> list[Path]:
    """The oldest, of which there must be fewer; the newest always stays."""
    newest_first = list(paths)[::-1]
    size, kept = 0, 0
    for path in newest_first:
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
        if kept and (kept >= count_max or size > bytes_max):
            break
        kept += 1
    return newest_first[kept:]


# -------------------------------------------------------------------------------------------------------------- capture


def capture(domain: Domain, event: str, error: SpinError, clock: Clock) -> CrashRecord:
    """Run a fault once more and return its record.

    Args:
        domain: Whose handler failed; not restored yet.
        event: Of which event.
        error: With what; its ``attempt`` says in which call.
        clock: For the time.

    Raises:
        SpinError: It cannot be run again: a limit, an init that fails, a memory too large to keep.
    """
    assert error.attempt is not None
    entry, outer, arguments = error.attempt
    if entry.closure is not NO_CLOSURE:
        arguments = (entry.closure, *arguments)
    export = entry.handler.name
    numbers = Numbers()
    given = encode_all(domain.extension.exports[export].function, arguments, numbers)
    recorder = Recorder(domain.extension, numbers)
    lost = domain.instance is None or domain.instance.broken
    image, double = _double(domain, recorder, numbers, lost=lost)
    call = Call(event, None if outer is None else outer.context, outer)
    again = run_once(domain, double, export, arguments, call=call, quantum_ticks=entry.quantum_ticks)
    return CrashRecord(
        about=_about(
            domain,
            error,
            time=moment(clock, clock.monotonic_s()),
            event=event,
            export=export,
            closure=None if entry.closure is NO_CLOSURE else entry.closure,
            quantum_ticks=entry.quantum_ticks,
            image="initialised" if lost else "before",
            again=Outcome.of(again),
            calls_complete=recorder.complete,
        ),
        wit=domain.extension.interfaces.sources,
        manifest=domain.extension.manifest.text,
        code=domain.extension.fitting.code,
        image=image,
        resources=numbers.resources(),
        arguments=given,
        calls=tuple(recorder.calls),
    )


def _double(domain: Domain, recorder: Recorder, numbers: Numbers, *, lost: bool) -> tuple[Image, Instance]:
    """An instance with the state from before the call; where that is lost, with that after its initialisation."""
    double = domain.double(recorder.wrap, initialised=lost)
    recorder.begin()
    if lost or domain.instance is None:
        return read_state(double, numbers)[0], double
    image, objects = read_state(domain.instance, numbers)
    if len(image.memory) > MEMORY_BYTES_MAX:
        raise QuotaExceeded(f"found {len(image.memory)} bytes of memory, expected at most {MEMORY_BYTES_MAX} to keep")
    write_state(double, image, objects)
    return image, double


def _about(domain: Domain, error: SpinError, **parts: Any) -> About:
    return About(
        spinrt=version("spinrt"),
        engine=version("wasmtime"),
        python=platform.python_version(),
        extension=domain.name,
        version=domain.extension.manifest.version,
        limits=asdict(domain.limits),
        grants={
            id_: {"functions": list(grant.functions), "attenuations": dict(grant.attenuations)}
            for id_, grant in domain.policy.grants.items()
        },
        config=dict(domain.policy.config),
        fault=Outcome.of(error),
        backtrace=tuple(error.trace.frames()) if error.trace is not None else (),
        **parts,
    )
