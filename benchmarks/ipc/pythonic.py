"""Forms between two processes as programs in Python use them. The callee's work is done in C here too."""

from __future__ import annotations

import contextlib
import functools
import http.client
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from benchmarks.ipc import partner
from benchmarks.ipc.cores import Cores, pin
from benchmarks.ipc.native import driver
from benchmarks.ipc.partner import ANSWER, GRPC_METHOD, HEAD, HOST, ROOM_BYTES
from benchmarks.ipc.subject import WARM_UP_SHARE, WINDOW, Scale, Subject, Taken
from benchmarks.ipc.work import EXPECTED, SIZES, payload
from spinrt.errors import InternalError

PROCESS: Final = "python_subprocess"
GRPC: Final = "grpc"
_ROOT: Final = Path(__file__).parents[2]
_WORDS: Final = 1 << 64
_END_TIMEOUT_S: Final = 10


class Client(Protocol):
    """The caller's end of a form."""

    window: int

    def send(self, number: int, data: bytes) -> None:
        """Ask."""

    def receive(self) -> int:
        """The answer to the oldest request that has none."""


class Stream:
    """A pair of descriptors."""

    window = WINDOW

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink

    def send(self, number: int, data: bytes) -> None:
        self._sink.write(HEAD.pack(number, len(data)))
        self._sink.write(data)
        self._sink.flush()

    def receive(self) -> int:
        found: int = ANSWER.unpack(self._source.read(ANSWER.size))[0]
        return found


class Message:
    """One end of a `multiprocessing.Pipe`."""

    window = WINDOW

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def send(self, number: int, data: bytes) -> None:
        self._connection.send_bytes(ANSWER.pack(number) + data)

    def receive(self) -> int:
        found: int = ANSWER.unpack(self._connection.recv_bytes())[0]
        return found


class Queues:
    """Two `multiprocessing.Queue`."""

    window = WINDOW

    def __init__(self, requests: Any, answers: Any) -> None:
        self._requests, self._answers = requests, answers

    def send(self, number: int, data: bytes) -> None:
        self._requests.put((number, data))

    def receive(self) -> int:
        found: int = self._answers.get()
        return found


class Http:
    """A kept connection of `http.client`."""

    window = 1

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port)

    def send(self, number: int, data: bytes) -> None:
        self._connection.request("POST", f"/{number}", data)

    def receive(self) -> int:
        found: int = ANSWER.unpack(self._connection.getresponse().read())[0]
        return found


class Grpc:
    """A channel of gRPC; a call that waits alone is made directly, several as futures."""

    window = WINDOW

    def __init__(self, channel: Any) -> None:
        self._call = channel.unary_unary(GRPC_METHOD)
        self._waiting: deque[Any] = deque()

    def send(self, number: int, data: bytes) -> None:
        self._waiting.append(self._call.future(ANSWER.pack(number) + data))

    def receive(self) -> int:
        found: int = ANSWER.unpack(self._waiting.popleft().result())[0]
        return found


class Subprocess:
    """`subprocess.run` of a small program in C for each call."""

    window = 1

    def __init__(self) -> None:
        self.core = 0
        self._command: list[str] = []
        self._data = b""

    def send(self, number: int, data: bytes) -> None:
        self._command = [str(driver()), "answer", str(self.core), str(len(data)), str(number)]
        self._data = data

    def receive(self) -> int:
        done = subprocess.run(self._command, input=self._data, stdout=subprocess.PIPE, check=True)
        found: int = ANSWER.unpack(done.stdout)[0]
        return found


Place = Callable[[int], None]
"""Holds the callee to a core."""


@contextlib.contextmanager
def subjects(cores: Cores, scale: Scale) -> Iterator[tuple[list[Subject], dict[str, str]]]:
    """Every form, on one core and on two, with every size; and those that are missing, with the reason.

    Partners run until the context is left; they are idle but for the subject that is measured.
    """
    made: list[Subject] = []
    skipped = {}
    with contextlib.ExitStack() as stack:
        for name, opened in FORMS.items():
            if name == GRPC and find_spec("grpc") is None:
                skipped[name] = "grpcio is not installed; `make setup` installs it, and so does the extra `bench`"
                continue
            client, place = stack.enter_context(opened())
            made += _of_form(name, client, place, cores, scale)
        yield made, skipped


def _of_form(name: str, client: Client, place: Place, cores: Cores, scale: Scale) -> list[Subject]:
    calls = (scale.spawns, 0) if name == PROCESS else (scale.python_round_trips, scale.python_rate_calls)
    return [
        Subject(
            name, {"bytes": size, "cores": where}, _runner(name, client, size, functools.partial(place, core), calls)
        )
        for where, core in cores.places().items()
        for size in SIZES
    ]


def _runner(
    name: str, client: Client, size: int, place: Callable[[], None], counts: tuple[int, int]
) -> Callable[[], Taken]:
    round_trips, rate_calls = counts
    data, expected = payload(size), EXPECTED[size]

    def call(calls: int, window: int = 1) -> int:
        """So many calls, up to `window` of them on their way; the nanoseconds of all."""
        began = time.perf_counter_ns()
        asked = 0
        for number in range(calls):
            while asked < calls and asked - number < window:
                client.send(asked, data)
                asked += 1
            if client.receive() != (number + expected) % _WORDS:
                raise InternalError(f"{name}: found another answer to {size} bytes than expected")
        return time.perf_counter_ns() - began

    def run() -> Taken:
        place()
        call(max(round_trips // WARM_UP_SHARE, 1))
        samples = [float(call(1)) for _ in range(round_trips)]
        one = call(rate_calls) / rate_calls if rate_calls else None
        return Taken(samples, one, call(rate_calls, client.window) / rate_calls if client.window > 1 else None)

    return run


# ---------------------------------------------------------------------------------------------------------- opening


@contextlib.contextmanager
def _partner(form: str, *descriptors: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", partner.__name__, form, *map(str, descriptors)]
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, pass_fds=descriptors, env=os.environ | {"PYTHONPATH": path}
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=_END_TIMEOUT_S)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[Client, Place]]:
    asks, answers = os.pipe(), os.pipe()
    with (
        open(answers[0], "rb", ROOM_BYTES) as source,
        open(asks[1], "wb", ROOM_BYTES) as sink,
        _partner("pipe", asks[0], answers[1]) as child,
    ):
        os.close(asks[0])
        os.close(answers[1])
        yield Stream(source, sink), lambda core: pin(child.pid, core)


@contextlib.contextmanager
def _socket() -> Iterator[tuple[Client, Place]]:
    ours, theirs = socket.socketpair()
    there = theirs.fileno()
    with (
        ours,
        open(ours.fileno(), "rb", ROOM_BYTES, closefd=False) as source,
        open(ours.fileno(), "wb", ROOM_BYTES, closefd=False) as sink,
        _partner("socket", there, there) as child,
    ):
        theirs.close()
        yield Stream(source, sink), lambda core: pin(child.pid, core)


@contextlib.contextmanager
def _multiprocessing(target: Callable[..., None], *arguments: Any) -> Iterator[Place]:
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    child.start()
    try:
        yield lambda core: pin(child.pid or 0, core)
    finally:
        child.kill()
        child.join(_END_TIMEOUT_S)


@contextlib.contextmanager
def _connection() -> Iterator[tuple[Client, Place]]:
    ours, theirs = multiprocessing.Pipe()
    with ours, _multiprocessing(partner.serve_connection, theirs) as place:
        theirs.close()
        yield Message(ours), place


@contextlib.contextmanager
def _queues() -> Iterator[tuple[Client, Place]]:
    context = multiprocessing.get_context("spawn")
    requests, answers = context.Queue(), context.Queue()
    with _multiprocessing(partner.serve_queues, requests, answers) as place:
        yield Queues(requests, answers), place
    requests.cancel_join_thread()


@contextlib.contextmanager
def _http() -> Iterator[tuple[Client, Place]]:
    with _partner("http") as child:
        yield Http(_port(child)), lambda core: pin(child.pid, core)


@contextlib.contextmanager
def _grpc() -> Iterator[tuple[Client, Place]]:
    import grpc

    with _partner("grpc") as child, grpc.insecure_channel(f"{HOST}:{_port(child)}") as channel:
        yield Grpc(channel), lambda core: pin(child.pid, core)


def _port(child: subprocess.Popen[bytes]) -> int:
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line.strip().isdigit():
        raise InternalError(f"{child.args!r}: found {line!r} where its port was expected")
    return int(line)


@contextlib.contextmanager
def _subprocess() -> Iterator[tuple[Client, Place]]:
    client = Subprocess()
    yield client, lambda core: setattr(client, "core", core)


FORMS: Final[dict[str, Callable[[], contextlib.AbstractContextManager[tuple[Client, Place]]]]] = {
    "python_pipe": _pipe,
    "python_socket": _socket,
    "multiprocessing_pipe": _connection,
    "multiprocessing_queue": _queues,
    "python_http": _http,
    GRPC: _grpc,
    PROCESS: _subprocess,
}
