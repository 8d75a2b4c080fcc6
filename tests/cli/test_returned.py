"""What people are told of a version that gave its place back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spinrt.cli import inspect, reload
from spinrt.cli.main import main
from spinrt.runtime.inspect import describe
from tests.runtime.test_replace import adding, made_with


def description(faults: int) -> dict[str, Any]:
    """Of a runtime whose second version failed so often."""
    made, event = made_with()
    made.replace(made.load(adding(1)), adding(2, version="2.0.0"))
    for _ in range(faults):
        event.raise_(1, 1)
    return describe(made)


def test_inspect_says_who_was_returned_to(capsys: pytest.CaptureFixture[str]) -> None:
    """With how often, when and why."""
    inspect.print_description(description(3))
    out = capsys.readouterr().out
    assert "adder 2.0.0 was returned to 1.0.0 after 3 faults, at 1970-01-01T00:00:00Z: extension.trap" in out


def test_reload_waits_for_what_is_on_probation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the reason when it gives its place back meanwhile; 0 when it does not."""
    answers: list[dict[str, Any]] = []
    config = SimpleNamespace(data_directory=tmp_path)
    done = {"loaded": [], "replaced": ["adder"], "unloaded": [], "unchanged": [], "failed": {}}
    monkeypatch.setattr(reload, "load_config", lambda arguments: config)
    monkeypatch.setattr(reload.time, "sleep", lambda seconds: None)

    def request(directory: Path, operation: str, arguments: object) -> Any:
        return {**done, "failed": {}} if operation == "extensions.reload" else answers.pop(0)

    monkeypatch.setattr(reload, "request", request)
    answers[:] = [description(0), description(1), description(3)]
    assert main(["reload", "--wait", "30"]) == 1
    assert "not reloaded: adder: 2.0.0 was returned to 1.0.0 after 3 faults" in capsys.readouterr().err
    answers[:] = [description(1)]
    assert main(["reload"]) == 0
    with pytest.raises(SystemExit, match="2"):
        main(["reload", "--wait", "soon"])
