"""``spinrt mirror`` from the command line: make, push, look, take over, go back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spinrt.cli.main import DAMAGED, FAILED, OK, USAGE, main
from tests.mail.service_support import config_of, config_text, message, send, serving


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A mail system that has mail, and a mirror on its own disk that is up to date."""
    path = tmp_path / "spinrt.yaml"
    mirror = {"targets": {"disk": {"directory": str(tmp_path / "disk"), "interval": "1 h"}}}
    path.write_text(config_text(tmp_path, mirror=mirror))
    with serving(config_of(tmp_path, mirror=mirror)) as mail:
        for number in range(3):
            send(mail, message(f"number {number}"), "alice@example.org")
    assert main(["mirror", "push", "--config", str(path)]) == OK
    return path


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main(["mirror", *map(str, arguments), "--json"]) == OK
    return json.loads(capsys.readouterr().out)


def test_init_makes_a_pair_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spinrt.yaml"
    path.write_text(config_text(tmp_path))

    assert main(["mirror", "init", "--config", str(path)]) == OK
    first = capsys.readouterr().out
    assert main(["mirror", "init", "--config", str(path)]) == OK

    assert first == capsys.readouterr().out
    assert first == (tmp_path / "mirror" / "certificate.pem").read_text()
    assert first.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in first
    assert (tmp_path / "mirror" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_push_and_status_say_what_was_sent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (target,) = spoken(capsys, "status", "--config", config)["targets"]
    assert (target["target"], target["error"], target["lag_bytes"]) == ("disk", "", 0)
    assert target["updates"] >= 1
    assert target["sent_bytes"] > 0

    assert main(["mirror", "push", "disk", "--config", str(config)]) == OK
    assert "disk: up to date; sent" in capsys.readouterr().out
    assert main(["mirror", "status", "--config", str(config)]) == OK
    assert "log behind" in capsys.readouterr().out
    assert main(["mirror", "push", "attic", "--config", str(config)]) == FAILED
    assert "there are: disk" in capsys.readouterr().err


def test_a_mirror_can_be_looked_into(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = config.parent / "disk"

    assert spoken(capsys, "open", disk) == [{"account": "alice"}, {"account": "bob"}]
    assert {row["mailbox"]: row["messages"] for row in spoken(capsys, "open", disk, "alice")}["INBOX"] == 3
    assert [row["subject"] for row in spoken(capsys, "open", disk, "alice", "INBOX")] == [
        f"number {number}" for number in range(3)
    ]
    assert spoken(capsys, "open", disk, "alice", "INBOX", "2")["uid"] == 2
    assert main(["mirror", "open", str(config.parent / "data")]) == FAILED
    assert "is no mirror" in capsys.readouterr().err


def test_promote_and_resync(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk, data = config.parent / "disk", config.parent / "data"

    assert main(["serve", "--config", str(_pointing_at(config, disk))]) == USAGE
    assert "spinrt mirror promote" in capsys.readouterr().err
    assert spoken(capsys, "promote", disk)["directory"] == str(disk)
    assert main(["mirror", "promote", str(disk)]) == FAILED
    aside = spoken(capsys, "resync", data)["aside"]
    assert len(aside) == 64
    assert spoken(capsys, "resync", data)["aside"] is None
    assert main(["mirror", "open", str(data), "alice", "INBOX"]) == OK
    assert "number 2" in capsys.readouterr().out


def _pointing_at(config: Path, directory: Path) -> Path:
    path = config.parent / "other.yaml"
    path.write_text(config_text(config.parent, data_directory=str(directory)))
    return path


def test_a_damaged_book_is_damage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = config.parent / "disk"
    (disk / "MIRROR").write_text("{}")

    assert main(["mirror", "promote", str(disk)]) == DAMAGED
    assert "MIRROR" in capsys.readouterr().err


def test_serve_without_sources_is_a_mistake_of_the_configuration(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mirror", "serve", "--config", str(config)]) == USAGE
    assert "mirror.sources" in capsys.readouterr().err
