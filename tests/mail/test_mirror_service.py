"""Mirroring between running mail systems, over TLS on loopback."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from spinrt.errors import ConfigError, NotFound, PeerFailed
from spinrt.mail.asking import ask
from spinrt.mail.config import Config, parse
from spinrt.mail.config_check import rehearse
from spinrt.mail.control import request
from spinrt.mail.mirror_server import identity_directory
from spinrt.mail.store.promote import promote
from spinrt.mail.tls import pinned_pair
from tests.mail.service_support import Dialogue, config_of, config_text, fetch, free_port, message, send, serving


def standby(directory: Path, port: int, source: Path) -> Config:
    """A machine that keeps a mirror, and serves nobody yet."""
    directory.mkdir()
    config = config_of(
        directory,
        mirror={
            "listen": f"127.0.0.1:{port}",
            "sources": {"mailhost": {"directory": str(directory / "kept"), "certificate": str(source)}},
        },
    )
    pinned_pair(identity_directory(config), "standby")
    return config


def mailhost(directory: Path, port: int, interval: str, **changes: object) -> Config:
    """A mail system with a mirror elsewhere and one on its own disk."""
    directory.mkdir()
    return config_of(
        directory,
        mirror={
            "targets": {
                "cellar": {
                    "at": f"127.0.0.1:{port}",
                    "certificate": str(directory.parent / "standby" / "mirror" / "certificate.pem"),
                    "interval": interval,
                },
                "disk": {"directory": str(directory / "disk"), "interval": "1 h", "bytes_per_s": "100 MiB"},
            }
        },
        **changes,
    )


def both(directory: Path, interval: str = "1 h", **changes: object) -> tuple[Config, Config]:
    port = free_port()
    source = mailhost(directory / "source", port, interval, **changes)
    certificate, _ = pinned_pair(identity_directory(source), "source")
    return source, standby(directory / "standby", port, certificate)


def soon(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status_of(config: Config, target: str) -> dict[str, Any]:
    found = request(config.data_directory, "mirror.status", {})
    return next(one for one in found["targets"] if one["target"] == target)


def test_a_mirror_elsewhere_can_take_over(tmp_path: Path) -> None:
    """Mail in, push, promote there: the same mailboxes with the same bytes, served by the other machine."""
    source, other = both(tmp_path)
    with serving(source) as mail, serving(other) as _:
        for number in range(5):
            send(mail, message(f"number {number}"), "alice@example.org")
        pushed = request(source.data_directory, "mirror.push", {})
        expected = fetch(mail, "alice")
        kept = request(other.data_directory, "mirror.status", {})["sources"]

    assert [one["error"] for one in pushed] == ["", ""]
    assert all(one["lag_bytes"] == 0 and one["lag_s"] == 0.0 for one in pushed)
    assert kept[0]["snapshot"] == pushed[0]["snapshot"]
    assert kept[0]["updates"] >= 1
    promote(tmp_path / "standby" / "kept")
    after = config_of(tmp_path / "standby", data_directory=str(tmp_path / "standby" / "kept"))
    with serving(after) as mail:
        assert [body for body, _ in fetch(mail, "alice")] == [body for body, _ in expected]
        assert len(expected) == 5
        send(mail, message("after"), "alice@example.org")
        assert len(fetch(mail, "alice")) == 6


def test_a_continuous_mirror_follows_by_itself(tmp_path: Path) -> None:
    """Nobody asks: what is delivered arrives, and lag is zero again; the metrics say so."""
    port = free_port()
    source, other = both(tmp_path, "0 s", metrics={"listen": f"127.0.0.1:{port}"})
    with serving(other), serving(source) as mail:
        soon(lambda: status_of(source, "cellar")["updates"] == 1)
        send(mail, message("one more"), "alice@example.org")
        soon(lambda: status_of(source, "cellar")["updates"] >= 2 and status_of(source, "cellar")["lag_bytes"] == 0)
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read().decode()

    assert 'spinrt_mirror_lag_bytes{target="cellar"} 0.0' in text
    assert 'spinrt_mirror_updates_total{target="cellar"}' in text
    assert "spinrt_mirror_sent_bytes_total" in text


def test_a_continuous_mirror_leaves_no_heap_of_snapshots(tmp_path: Path) -> None:
    """Neither at the source nor at the mirror: retention thins out after each update."""
    source, other = both(tmp_path, "0 s")
    with serving(other), serving(source) as mail:
        for number in range(4):
            before = status_of(source, "cellar")["updates"] if number else 0
            send(mail, message(f"number {number}"), "alice@example.org")
            soon(lambda before=before: status_of(source, "cellar")["updates"] > before)  # type: ignore[misc]
        soon(lambda: status_of(source, "cellar")["lag_bytes"] == 0)
        soon(lambda: len(mail.service.store.snapshots.pages.snapshots()) <= 4)
        kept = request(other.data_directory, "mirror.status", {})["sources"][0]

    assert kept["updates"] >= 4
    assert kept["snapshots"] <= 4


def test_a_mirror_that_is_away_is_tried_again(tmp_path: Path) -> None:
    """The server serves; the status names the reason; when the mirror is back the update arrives."""
    source, other = both(tmp_path, "200 ms")
    with serving(source) as mail:
        soon(lambda: "cannot be reached" in status_of(source, "cellar")["error"])
        send(mail, message(), "alice@example.org")
        assert status_of(source, "cellar")["lag_bytes"] is None
        with pytest.raises(PeerFailed):
            request(source.data_directory, "mirror.push", {"target": "cellar"})
        with serving(other):
            soon(lambda: status_of(source, "cellar")["error"] == "")
        with pytest.raises(NotFound, match="attic"):
            request(source.data_directory, "mirror.push", {"target": "attic"})


def test_stopping_does_not_wait_for_a_slow_disk(tmp_path: Path) -> None:
    """An update that its rate would make last an hour is broken off when the server stops, and goes on later."""
    source, _ = both(tmp_path)
    slow = replace(source.mirror.targets["disk"], bytes_per_s=20)
    config = replace(source, mirror=replace(source.mirror, targets={"disk": slow}))
    with serving(config) as mail:
        send(mail, message("hello"), "alice@example.org")
        soon((tmp_path / "source" / "disk" / "log").exists)

    assert ask(source, "mirror.push", target="disk")[0]["updates"] == 1


def test_nothing_to_send_is_not_sent_again_and_again(tmp_path: Path) -> None:
    """Bytes of a message that was given up lie in the log and are in no snapshot: that is no lag, and no update."""
    source, other = both(tmp_path, "0 s")
    with serving(other), serving(source) as mail:
        soon(lambda: status_of(source, "cellar")["updates"] == 1)
        with Dialogue(mail.address("smtp")) as peer:
            peer.begin("alice@example.org")
            peer.say("DATA")
            peer._socket.sendall(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20_000)
        send(mail, message("after"), "alice@example.org")
        soon(lambda: status_of(source, "cellar")["updates"] == 2)
        soon(lambda: status_of(source, "cellar")["lag_bytes"] == 0)
        soon(lambda: not mail.service.mirroring._is_due("cellar"))
        assert status_of(source, "cellar")["lag_s"] == 0.0


def test_pushing_works_without_a_server(tmp_path: Path) -> None:
    """The same operation, in the process that asks; the base of the next update is remembered."""
    source, _ = both(tmp_path)
    with serving(source) as mail:
        send(mail, message(), "alice@example.org")

    first = ask(source, "mirror.push", target="disk")
    second = ask(source, "mirror.push", target="disk")

    assert first[0]["updates"] >= 1
    assert second[0]["snapshot"] == first[0]["snapshot"]
    assert second[0]["last_pages"] == 0


def test_what_a_snapshot_of_a_target_is_stays_pinned(tmp_path: Path) -> None:
    source, _ = both(tmp_path)
    with serving(source) as mail:
        soon(lambda: status_of(source, "disk")["updates"] == 1)
        identity = bytes.fromhex(status_of(source, "disk")["snapshot"])

        assert identity in mail.service.mirroring.pinned()


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"targets": {"a": {}}}, "expected either a directory, or at and certificate"),
        ({"targets": {"a": {"at": "h:1"}}}, "come together"),
        ({"targets": {"a": {"directory": "d", "at": "h:1", "certificate": "c"}}}, "either"),
        ({"targets": {"../a": {"directory": "d"}}}, "expected a name"),
        ({"sources": {"a": {"directory": "d"}}}, "certificate"),
        ({"sources": {n: {"directory": n, "certificate": "c"} for n in "ab"}}, "share a certificate"),
        ({"sources": {n: {"directory": "d", "certificate": n} for n in "ab"}}, "share a directory"),
        ({"targets": {"a": {"directory": "d", "rate": 1}}}, "unknown key 'rate'"),
    ],
)
def test_a_wrong_section_is_one_line(tmp_path: Path, section: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        parse(yaml.safe_dump({"mirror": section}), tmp_path / "s.yaml")

    assert "\n" not in caught.value.line()


def test_a_server_without_its_certificate_says_what_to_do(tmp_path: Path) -> None:
    directory = tmp_path / "x"
    directory.mkdir()
    certificate, _ = pinned_pair(tmp_path / "other", "other")
    text = config_text(
        directory,
        mirror={
            "listen": "127.0.0.1:0",
            "sources": {"a": {"directory": str(directory / "kept"), "certificate": str(certificate)}},
        },
    )

    async def start() -> None:
        from spinrt.mail.mirror_server import MirrorServer

        await MirrorServer(parse(text, directory / "spinrt.yaml")).start()

    with pytest.raises(ConfigError, match="cannot be used") as caught:
        asyncio.run(start())

    assert "spinrt mirror init" in caught.value.hint


def test_a_certificate_that_is_none_is_found_by_config_check(tmp_path: Path) -> None:
    source, _ = both(tmp_path)
    rehearse(source)
    (tmp_path / "standby" / "mirror" / "certificate.pem").write_text("no certificate")

    with pytest.raises(ConfigError, match="found no certificate"):
        rehearse(source)
