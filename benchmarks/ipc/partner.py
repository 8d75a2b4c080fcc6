"""The other end of the forms that are written in Python, as a program: ``python -m benchmarks.ipc.partner FORM ...``.

``pipe`` and ``socket`` are given descriptors to read from and write to; ``http`` and ``grpc`` listen on a port of
loopback, which they print. It ends when its caller does.

A request over a pipe or socket is a head (number and size, 8 bytes each, little-endian) and the payload; the answer has
8 bytes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.ipc.native import work

HOST: Final = "127.0.0.1"
HEAD: Final = struct.Struct("<QQ")
ANSWER: Final = struct.Struct("<Q")
ROOM_BYTES: Final = 1 << 17
GRPC_METHOD: Final = "/ipc/answer"
_PR_SET_PDEATHSIG: Final = 1
_WORDS: Final = 1 << 64


def answered(number: int, data: bytes) -> bytes:
    """What every callee answers, as it is sent."""
    return ANSWER.pack((number + work().checksum(data)) % _WORDS)


def end_with_the_caller() -> None:
    """Nothing is left behind when the benchmark is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark stops it


def serve_stream(source: int, sink: int) -> None:
    """Answer what comes through a descriptor, until its other end is closed."""
    with open(source, "rb", ROOM_BYTES) as requests, open(sink, "wb", 0, closefd=source != sink) as answers:
        while head := requests.read(HEAD.size):
            number, size = HEAD.unpack(head)
            answers.write(answered(number, requests.read(size)))


def serve_connection(connection: Connection) -> None:
    """Answer what comes through one end of a `multiprocessing.Pipe`: the number and the payload, in one message."""
    end_with_the_caller()
    while True:
        message = connection.recv_bytes()
        connection.send_bytes(answered(ANSWER.unpack_from(message)[0], memoryview(message)[ANSWER.size :]))  # type: ignore[arg-type]


def serve_queues(requests: Any, answers: Any) -> None:
    """Answer what comes through a `multiprocessing.Queue`: pairs of number and payload."""
    end_with_the_caller()
    while True:
        number, data = requests.get()
        answers.put((number + work().checksum(data)) % _WORDS)


class Handler(BaseHTTPRequestHandler):
    """The number is the path, the payload the body; head and body of the answer go out together."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        """Answer one request; the connection stays."""
        data = self.rfile.read(int(self.headers["Content-Length"]))
        answer = answered(int(self.path[1:]), data)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


def serve_http() -> None:
    """HTTP/1.1 by the standard library."""
    server = ThreadingHTTPServer((HOST, 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def serve_grpc() -> None:
    """gRPC, bytes in and out, no messages to take apart: the head of a stream's request, then the payload."""
    from concurrent import futures

    import grpc

    def answer(request: bytes, context: object) -> bytes:
        return answered(ANSWER.unpack_from(request)[0], memoryview(request)[ANSWER.size :])  # type: ignore[arg-type]

    class Answers(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer) if details.method == GRPC_METHOD else None

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Answers()])
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


SERVERS: Final[dict[str, Callable[..., None]]] = {
    "pipe": serve_stream,
    "socket": serve_stream,
    "http": serve_http,
    "grpc": serve_grpc,
}


def main() -> None:
    """Serve until the caller is gone."""
    end_with_the_caller()
    if os.getppid() != 1:
        SERVERS[sys.argv[1]](*map(int, sys.argv[2:]))


if __name__ == "__main__":
    main()
