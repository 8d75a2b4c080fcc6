"""The data directory: lock, format version, upgrade rule, permissions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinrt.errors import ConfigError, CorruptRecord, DataLocked, DeviceFailed, FormatUnknown
from spinrt.storage.datadir import DataDirectory, held, read_format
from spinrt.storage.hints import Hints
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import BOOK_NAME, FileBook, Standing
from spinrt.storage.pages import LocalPages
from spinrt.storage.wal import Changes, load_changes


def test_new_directory_is_versioned_and_for_its_owner_only(tmp_path: Path) -> None:
    """Created with parents, format 1, mode 0700."""
    path = tmp_path / "a" / "data"
    with DataDirectory.open(path) as directory:
        assert read_format(path) == 1
        assert path.stat().st_mode & 0o777 == 0o700
        assert directory.log_path.parent == path
    for name in ("FORMAT", "LOCK"):
        assert (path / name).stat().st_mode & 0o077 == 0


def test_wide_permissions_are_narrowed(tmp_path: Path) -> None:
    """A directory that others could read is closed to them when it is opened."""
    DataDirectory.open(tmp_path / "data").close()
    (tmp_path / "data").chmod(0o755)

    DataDirectory.open(tmp_path / "data").close()

    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_second_owner_is_told_who_has_it(tmp_path: Path) -> None:
    """In this process and in another, until the owner closes."""
    path = tmp_path / "data"
    code = (
        "import sys; from pathlib import Path; from spinrt.storage.datadir import DataDirectory\n"
        "from spinrt.errors import DataLocked\n"
        "try: DataDirectory.open(Path(sys.argv[1]))\n"
        "except DataLocked as error: print(error); sys.exit(3)\n"
    )
    with DataDirectory.open(path):
        with pytest.raises(DataLocked, match=f"process {os.getpid()}"):
            DataDirectory.open(path)
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert (done.returncode, str(os.getpid()) in done.stdout) == (3, True)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_newer_format_is_refused_with_a_hint(tmp_path: Path) -> None:
    """Nothing is changed and the lock is given up."""
    path = tmp_path / "data"
    DataDirectory.open(path, version=3).close()

    with pytest.raises(FormatUnknown, match="format 3") as caught:
        DataDirectory.open(path)

    assert "newer" in caught.value.hint
    assert read_format(path) == 3
    DataDirectory.open(path, version=3).close()


def test_upgrades_run_in_order_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    """Each step is recorded when it is done; a step that fails runs again at the next open."""
    path = tmp_path / "data"
    DataDirectory.open(path, version=1).close()
    ran: list[int] = []

    def two(_: Path) -> None:
        ran.append(2)
        if ran.count(2) == 1:
            raise OSError("power lost")

    upgrades = {1: lambda _: ran.append(1), 2: two}
    with pytest.raises(OSError, match="power lost"):
        DataDirectory.open(path, version=3, upgrades=upgrades)
    assert read_format(path) == 2

    DataDirectory.open(path, version=3, upgrades=upgrades).close()

    assert (ran, read_format(path)) == ([1, 2, 2], 3)


def test_older_format_without_upgrade_is_refused(tmp_path: Path) -> None:
    """No upgrade known: refused, not guessed."""
    DataDirectory.open(tmp_path / "data", version=1).close()

    with pytest.raises(FormatUnknown, match="no upgrade"):
        DataDirectory.open(tmp_path / "data", version=2, upgrades={})


def test_other_directories_are_not_taken_over(tmp_path: Path) -> None:
    """A directory with other files, a file, and a damaged FORMAT are refused and left as they are."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="other files"):
        DataDirectory.open(tmp_path / "home")
    with pytest.raises(ConfigError):
        DataDirectory.open(tmp_path / "file")
    assert [entry.name for entry in (tmp_path / "home").iterdir()] == ["letter.txt"]
    DataDirectory.open(tmp_path / "data").close()
    (tmp_path / "data" / "FORMAT").write_text("nonsense")
    with pytest.raises(CorruptRecord, match="nonsense"):
        DataDirectory.open(tmp_path / "data")


@pytest.mark.parametrize("name", ["FORMAT", "LOCK"])
def test_a_fifo_in_place_of_a_file_is_told(tmp_path: Path, name: str) -> None:
    """Nobody waits for who writes into it."""
    DataDirectory.open(tmp_path / "data").close()
    (tmp_path / "data" / name).unlink()
    os.mkfifo(tmp_path / "data" / name)
    with pytest.raises((ConfigError, CorruptRecord), match=f"{name}.*no regular file"):
        DataDirectory.open(tmp_path / "data")
    if name == "LOCK":
        with pytest.raises(ConfigError, match="no regular file"), held(tmp_path / "data"):
            pass


def test_an_endless_format_is_told(tmp_path: Path) -> None:
    """It is not read to its end."""
    DataDirectory.open(tmp_path / "data").close()
    with (tmp_path / "data/FORMAT").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CorruptRecord, match="longer than"):
        DataDirectory.open(tmp_path / "data")


def test_a_fifo_in_place_of_a_segment_is_told(tmp_path: Path) -> None:
    """By its name, and not as a file that exists."""
    (tmp_path / "log").mkdir()
    os.mkfifo(tmp_path / "log" / f"{0:020d}.log")
    with pytest.raises(DeviceFailed, match=r"0\.log is no regular file"):
        Log.open(tmp_path / "log")


def test_derived_files_that_are_none_say_nothing(tmp_path: Path) -> None:
    """A FIFO, or one without an end, is as good as none."""
    path, endless = tmp_path / "fifo", tmp_path / "endless"
    os.mkfifo(path)
    with endless.open("wb") as file:
        file.truncate(1 << 40)
    assert load_changes(path, tmp_path / "database") is None
    assert load_changes(endless, tmp_path / "database") is None
    Hints.open(path, bytes(16)).save()
    assert Hints.open(path, bytes(16)).find(bytes(32)) is None


@pytest.mark.parametrize("suffix", [".pack", ".snap"])
def test_a_fifo_among_the_pages_is_told(tmp_path: Path, suffix: str) -> None:
    """It is not passed over as if it were not there, nor waited for."""
    LocalPages.open(tmp_path / "pages").close()
    os.mkfifo(tmp_path / "pages" / f"{1:020d}{suffix}")
    with pytest.raises(DeviceFailed, match=rf"{suffix} is no regular file"):
        LocalPages.open(tmp_path / "pages")


def test_a_fifo_among_several_segments_is_told(tmp_path: Path) -> None:
    """Without its segment the log would have a hole, or begin later."""
    log = Log.open(tmp_path / "log", segment_bytes_max=500)
    for n in range(20):
        log.append(2, (b"x" * 100,), time_ns=n)
    log.close()
    first, *_ = sorted((tmp_path / "log").iterdir())
    first.unlink()
    os.mkfifo(first)
    with pytest.raises(DeviceFailed, match=f"{first.name} is no regular file"):
        Log.open(tmp_path / "log", segment_bytes_max=500)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_fifo_in_place_of_the_index_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    """Whoever follows its changes is told which file it is."""
    database = tmp_path / "mail.sqlite"
    for one in ("", "-wal", "-shm"):
        (tmp_path / f"mail.sqlite{one}").touch()
    (tmp_path / f"mail.sqlite{suffix}").unlink()
    os.mkfifo(tmp_path / f"mail.sqlite{suffix}")
    with pytest.raises(OSError, match=f"mail.sqlite{suffix} is no regular file"):
        Changes(database)


def test_a_fifo_in_place_of_the_book_of_a_mirror_is_told(tmp_path: Path) -> None:
    """Reading and writing."""
    os.mkfifo(tmp_path / BOOK_NAME)
    with pytest.raises(OSError, match="no regular file"):
        FileBook(tmp_path).read()
    os.mkfifo(tmp_path / f"{BOOK_NAME}.new")
    with pytest.raises(OSError, match="no regular file"):
        FileBook(tmp_path).write(Standing())
