"""The metrics endpoint and `spinrt inspect`, against a server that runs."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from spinrt.cli.inspect import print_description
from spinrt.cli.main import FAILED, OK, main
from spinrt.errors import ConfigError
from spinrt.mail.config import parse
from spinrt.mail.metrics import CONNECTIONS_MAX, MetricsServer
from spinrt.runtime.inspect import describe
from tests.guests import EVENTS, extension, granted, runtime
from tests.mail.service_support import Running, config_of, config_text, message, send, serving

EMPTY: dict[str, Any] = {"domains": [], "events": []}


def get(service: Running, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(*service.address("metrics"), timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read().decode()
    connection.close()
    return found


def test_metrics_of_a_running_server(tmp_path: Path) -> None:
    """Off unless configured; then the text that Prometheus reads, on that path alone."""
    with serving(config_of(tmp_path / "off")) as service:
        assert "metrics" not in service.service.endpoints
    with serving(config_of(tmp_path / "on", metrics={"listen": "127.0.0.1:0"})) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("250")
        status, kind, text = get(service)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'spinrt_domain_info{domain="audit",state="running",version="1.0.0"} 1.0' in text
        assert 'spinrt_domain_faults_total{domain="delivery"} 0.0' in text
        assert 'spinrt_domain_health{domain="delivery",state="healthy"} 1.0' in text
        assert 'spinrt_domain_health{domain="delivery",state="quarantined"} 0.0' in text
        assert 'spinrt_domain_quarantines_total{domain="delivery"} 0.0' in text
        assert get(service, "/metrics?name=x")[0] == 200
        assert get(service, "/")[0] == 404
        assert get(service, method="POST")[0] == 405
        assert get(service, method="HEAD")[::2] == (200, "")


def test_endpoint_is_checked_with_the_configuration() -> None:
    """A port that is taken by another service, or no port."""
    with pytest.raises(ConfigError, match=r"metrics.listen: 127.0.0.1:2525 is taken by listen.smtp"):
        parse("metrics: {listen: '127.0.0.1:2525'}", Path("spinrt.yaml"))
    with pytest.raises(ConfigError, match=r"metrics.listen"):
        parse("metrics: {listen: 'unix:x'}", Path("spinrt.yaml"))


async def asked(address: tuple[str, int], request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    found = await reader.read()
    writer.close()
    return found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"GET /metrics SPDY/1\r\n\r\n", b"400"),
        (b"\xff\xfe \x00 HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * 10_000 + b"\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_malformed_requests_get_an_answer(request_: bytes, status: bytes) -> None:
    """And the next one is served."""

    async def run() -> None:
        server = MetricsServer(lambda: EMPTY)
        await server.start("127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        assert (await asked(address, request_)).split(b" ")[1] == status
        assert (await asked(address, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await server.close()

    asyncio.run(run())


def test_idle_clients_neither_stay_nor_keep_others_out() -> None:
    """Connections that say nothing are bounded and cut; afterwards there is room again."""

    async def run() -> None:
        server = MetricsServer(lambda: EMPTY, timeout_s=0.2)
        await server.start("127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        idle = [await asyncio.open_connection(*address) for _ in range(CONNECTIONS_MAX + 3)]
        for reader, writer in idle:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert b"200 OK" in await asked(address, b"GET /metrics HTTP/1.1\r\n\r\n")
        await server.close()

    asyncio.run(run())


def test_closing_ends_what_is_open() -> None:
    """A server that stops waits for nobody who scrapes."""

    async def run() -> None:
        server = MetricsServer(lambda: EMPTY)
        await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.sleep(0)
        await asyncio.wait_for(server.close(), 5)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()

    asyncio.run(run())


def test_inspect_shows_the_running_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table with grants and where they were written, and as JSON; one extension alone."""
    file = tmp_path / "spinrt.yaml"
    file.write_text(config_text(tmp_path), encoding="utf-8")
    with serving(parse(file.read_text(encoding="utf-8"), file)):
        assert main(["inspect", "--config", str(file)]) == OK
        text = capsys.readouterr().out
        for expected in ("Extensions", "undo-hook", "deadline_ms", "spinrt:mail/delivery@1.0.0", f"{file}:", "Events"):
            assert expected in text

        assert main(["inspect", "--json", "audit", "--config", str(file)]) == OK
        found = json.loads(capsys.readouterr().out)
        assert [domain["name"] for domain in found["domains"]] == ["audit"]
        assert {binding["domain"] for event in found["events"] for binding in event["bindings"]} == {"audit"}

        assert main(["inspect", "nobody", "--config", str(file)]) == FAILED
        assert "found no extension 'nobody', expected one of audit, delivery, undo-hook" in capsys.readouterr().err


def test_profile_of_the_running_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that viewers open; times that make no sense are refused."""
    file = tmp_path / "spinrt.yaml"
    file.write_text(config_text(tmp_path), encoding="utf-8")
    target = tmp_path / "profile.json"
    command = ["profile", str(target), "--config", str(file), "--seconds"]
    with serving(parse(file.read_text(encoding="utf-8"), file)):
        assert main([*command, "0.05"]) == OK
        threads = json.loads(target.read_text())["threads"]
        assert [set(thread["name"].split(", ")) for thread in threads] == [{"audit", "delivery", "undo-hook"}]
        assert "samples of guest code in" in capsys.readouterr().out
        for seconds in ("0", "-1", "nan", "1e9"):
            assert main([*command, seconds]) != OK
    assert main([*command, "1"]) == FAILED


def test_inspect_without_a_server_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to look at, and a hint how to change that."""
    file = tmp_path / "spinrt.yaml"
    file.write_text(config_text(tmp_path), encoding="utf-8")
    assert main(["inspect", "--config", str(file)]) == FAILED
    assert "found no server that runs" in capsys.readouterr().err


def test_metrics_port_in_use_is_named(tmp_path: Path) -> None:
    """The service does not start, and what it opened is closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(Exception, match=f"port {port}"),
            serving(config_of(tmp_path, metrics={"listen": f"127.0.0.1:{port}"})),
        ):
            pass


def test_what_a_guest_wrote_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in a fault's text are shown as such, not sent."""
    made = runtime(events=("ping",))
    made.load(extension(f'(func (export "{EVENTS}#ping"))', handlers=("ping",)), granted())
    made.domains["guest"].counters.note_problem("ping", "extension.trap: \x1b[2Jgone\r\n250 ok")

    print_description(describe(made))

    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "last fault of guest: extension.trap: \N{REPLACEMENT CHARACTER}[2Jgone" in text
