"""What a check keeps beside it is gone afterwards, also when the check was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from spinrt.storage.fsck.scratch import PREFIX, scratch

HOLD = """
import sys
from spinrt.storage.fsck.scratch import scratch
with scratch() as path:
    (path / "pages.sqlite").write_bytes(b"x" * 1000)
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_directory_is_there_while_it_is_used(temporary: Path) -> None:
    """Two at once, too."""
    with scratch() as one, scratch() as other:
        assert one != other
        assert one.parent == other.parent == temporary
        (one / "file").touch()
        assert one.stat().st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_those_of_killed_processes_go_and_those_in_use_stay(temporary: Path) -> None:
    """The next check removes what the killed one left, and nothing of one that runs, nor what is no directory."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        held = Path(process.stdout.readline().decode().strip())
        elsewhere = temporary / "elsewhere"
        elsewhere.mkdir()
        (temporary / f"{PREFIX}link").symlink_to(elsewhere)
        (temporary / f"{PREFIX}file").touch()
        with scratch():
            assert (held / "pages.sqlite").exists()
        process.kill()
        process.wait()
    assert held.exists()
    with scratch():
        assert not held.exists()
    assert sorted(path.name for path in temporary.iterdir()) == ["elsewhere", f"{PREFIX}file", f"{PREFIX}link"]
