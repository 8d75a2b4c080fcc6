"""`spinrt bench`: what cannot work is said before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinrt.cli.main import main


@pytest.mark.parametrize("flag", ["--save", "--report"])
@pytest.mark.parametrize("where", [".", "missing/result.json"])
def test_a_result_that_cannot_be_written_is_refused_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str, where: str
) -> None:
    """Nothing is run: there is no output of a benchmark."""
    monkeypatch.setattr("spinrt.cli.bench._run", lambda *_: pytest.fail("it was run"))
    assert main(["bench", "ipc", flag, str(tmp_path / where)]) == 2
    assert "expected a file's name" in capfd.readouterr().err
