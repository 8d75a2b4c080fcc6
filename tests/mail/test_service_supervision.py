"""Faults of an extension in the mail service: one session pays, others notice nothing; what is kept of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from spinrt.cli.main import main
from spinrt.mail.config import parse
from spinrt.mail.service import CRASHES_NAME
from spinrt.runtime.crash import decode_record
from spinrt.runtime.crash_keeper import list_records
from tests.guests import BUMP, wat
from tests.mail.service_support import Dialogue, Running, config_text, fetch, message, send, serving, shipped

DELIVER = "spinrt:mail/delivery-events@1.0.0#deliver"
MESSAGE = "spinrt:mail/message@1.0.0"
TRAPPING = f'{BUMP} (func (export "{DELIVER}") (param i32) (result i32) unreachable)'
READING = f"""
(import "{MESSAGE}" "[method]message.size" (func $size (param i32) (result i64)))
{BUMP}
(func (export "{DELIVER}") (param i32) (result i32)
  (drop (call $size (i32.load offset=68 (local.get 0)))) unreachable)
"""


def trapping_for_bob(directory: Path, body: str = TRAPPING) -> Path:
    """Write an extension that handles mail for bob alone, and fails at each."""
    target = directory / "bobs"
    target.mkdir()
    manifest = {
        "spinrt": 1,
        "name": "bobs",
        "version": "1.0.0",
        "module": "guest.wasm",
        "imports": [MESSAGE] if MESSAGE in body else [],
        "handlers": [{"event": DELIVER, "order": 50, "when": [{"field": "envelope.user", "equals": "bob"}]}],
    }
    (target / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    (target / "guest.wasm").write_bytes(wat(f"(module {body})"))
    return target


def serving_with(directory: Path, body: str = TRAPPING, **supervision: Any) -> Any:
    """Serve the shipped extensions and the one that fails for bob."""
    section = {"path": str(trapping_for_bob(directory, body)), "supervision": supervision, "grants": {MESSAGE: {}}}
    if MESSAGE not in body:
        del section["grants"]
    file = directory / "spinrt.yaml"
    file.write_text(config_text(directory, extensions={**shipped(), "bobs": section}), encoding="utf-8")
    return serving(parse(file.read_text(encoding="utf-8"), file))


def to_bob(service: Running) -> str:
    return send(service, message(), "bob@example.org")[0]


def test_one_session_is_refused_for_now_and_others_go_on(tmp_path: Path) -> None:
    """While one session gets 451 again and again, another one in the middle of its message is served."""
    with serving_with(tmp_path) as service, Dialogue(service.address("smtp")) as alice:
        for count in range(1, 6):
            assert all(answer.startswith("250") for answer in alice.begin("alice@example.org"))
            assert to_bob(service).startswith("451 4.3.0")
            assert alice.data(message())[0].startswith("250")
            assert len(fetch(service, "alice")) == count
        assert fetch(service, "bob") == []
        domains = service.service.mail.runtime.domains
        assert {name: one.counters.faults for name, one in domains.items()} == {
            "audit": 0,
            "bobs": 5,
            "delivery": 0,
            "undo-hook": 0,
        }


@pytest.mark.parametrize(("meanwhile", "answer"), [("skip", "250"), ("refuse", "451 4.3.0"), (None, "451 4.3.0")])
def test_what_mail_meets_in_a_quarantine(tmp_path: Path, meanwhile: str | None, answer: str) -> None:
    """The policy says whether it passes without the extension or waits at the peer."""
    chosen = {} if meanwhile is None else {"while_quarantined": meanwhile}
    with serving_with(tmp_path, faults=2, back_off_s=300, **chosen) as service:
        for _ in range(2):
            assert to_bob(service).startswith("451")
        bobs = service.service.mail.runtime.domains["bobs"]
        assert bobs.supervisor.is_quarantined
        assert to_bob(service).startswith(answer)
        assert bobs.counters.faults == 2
        assert send(service, message(), "alice@example.org")[0].startswith("250")


def test_a_crash_record_of_mail_replays_without_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It holds envelope and message, and `spinrt replay-fault` meets the same fault."""
    with serving_with(tmp_path, READING, crash_records=True) as service:
        assert to_bob(service).startswith("451")
        directory = service.service.config.data_directory / CRASHES_NAME
    (path,) = list_records(directory)
    record = decode_record(path.read_bytes(), path.name)
    assert any(b"Subject: hello" in (one.content or b"") for one in record.resources)
    assert b"bob@example.org" in record.arguments
    assert main(["replay-fault", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["replayed"]["code"]) == (True, "extension.trap")
    assert [call["function"] for call in found["host_calls"]] == [f"{MESSAGE}#[method]message.size"]


def test_inspect_shows_faults_and_where_they_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people and for programs."""
    with serving_with(tmp_path) as service:
        to_bob(service)
        to_bob(service)
        assert main(["inspect", "bobs", "--config", str(tmp_path / "spinrt.yaml")]) == 0
        text = capsys.readouterr().out
        assert f"extension.trap in {DELIVER}, arguments " in text
        assert f"    {DELIVER} (1+0x" in text
        assert main(["inspect", "bobs", "--json", "--config", str(tmp_path / "spinrt.yaml")]) == 0
    (domain,) = json.loads(capsys.readouterr().out)["domains"]
    assert domain["health"]["state"] == "faulted"
    assert domain["faults_by_code"] == {"extension.trap": 2}
    newest, oldest = domain["last_faults"]
    assert newest["backtrace"] == oldest["backtrace"]
    assert newest["backtrace"][0]["function"] == 1
    assert len(newest["arguments_digest"]) == 16
