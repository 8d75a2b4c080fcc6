"""`spinrt fsck --repair`: what one flipped byte damaged is found by trying, what is worse comes from a mirror."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from spinrt.cli.main import main
from spinrt.mail.config import Config
from tests.mail.service_support import fetch, serving
from tests.mail.test_mirror_repair import damage, filled, flip


def scramble(path: Path, offset: int, count: int) -> None:
    """Damage that nobody finds by trying."""
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = random.Random(offset).randbytes(count)
    path.write_bytes(content)


def fsck(config: Config, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    """Exit code, and the severities of all findings."""
    capsys.readouterr()
    code = main(["fsck", "--data", str(config.data_directory), "--json", *more])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, [one["severity"] for one in found]


def test_single_bytes_are_put_right_without_a_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One in each page and each body; everything is there again."""
    source, _ = filled(tmp_path)
    expected = {path: path.read_bytes() for path in source.data_directory.rglob("*.log")}
    digests, names = damage(source.data_directory)
    code, severities = fsck(source, capsys)
    assert code == 3
    assert severities.count("damage") >= len(names)

    code, severities = fsck(source, capsys, "--repair")

    assert (code, "damage" in severities) == (0, False)
    assert severities.count("repaired") >= len(digests) + len(names)
    assert {path: path.read_bytes() for path in source.data_directory.rglob("*.log")} == expected
    assert fsck(source, capsys)[0] == 0
    with serving(source) as mail:
        assert len(fetch(mail, "alice")) == len(names)


def test_what_is_mended_is_counted_once_and_what_stays_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped byte of a record and of a page, and a record that nobody can put right."""
    source, _ = filled(tmp_path)
    data = source.data_directory
    _, names = damage(data)
    assert fsck(source, capsys, "--repair")[0] == 0
    (segment,) = (data / "log").glob("*.log")
    flip(segment, names[2] - int(segment.stem) + 70)
    scramble(segment, names[4] - int(segment.stem) + 64, 20)
    flip(sorted((data / "pages").glob("*.pack"))[0], 64 + 52 + 5)
    capsys.readouterr()

    assert main(["fsck", "--data", str(data), "--repair"]) == 3

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("damaged: 1, repaired: 2")
    assert len(lines) == len(set(lines))
    assert sum(line.startswith("repaired: ") for line in lines) == 2
    assert sum(f"record at {names[4]}, " in line for line in lines) == 1


def test_what_is_worse_comes_from_the_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bodies and pages with many bytes wrong stay damage without it."""
    source, _ = filled(tmp_path)
    data = source.data_directory
    disk = source.mirror.targets["disk"].directory
    assert disk is not None
    whole = {path: path.read_bytes() for path in data.rglob("*.log")}
    _, names = damage(data)
    assert fsck(source, capsys, "--repair")[0] == 0
    (segment,) = (data / "log").glob("*.log")
    for name in names[2:5]:
        scramble(segment, name - int(segment.stem) + 64, 20)
    pack = sorted((data / "pages").glob("*.pack"))[0]
    scramble(pack, 64 + 52 + 5, 30)
    assert fsck(source, capsys, "--repair")[0] == 3

    code, severities = fsck(source, capsys, "--repair", "--from", str(disk))

    assert (code, "damage" in severities) == (0, False)
    assert {path: path.read_bytes() for path in data.rglob("*.log")} == whole
    assert fsck(source, capsys)[0] == 0


def test_last_record_is_no_torn_tail_when_one_byte_makes_it_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next start would cut it off; the index knows that it was there."""
    source, _ = filled(tmp_path)
    (segment,) = (source.data_directory / "log").glob("*.log")
    whole = segment.read_bytes()
    flip(segment, len(whole) - 3)
    assert fsck(source, capsys)[0] == 3
    assert fsck(source, capsys, "--repair")[0] == 0
    assert segment.read_bytes() == whole


def test_from_needs_repair_and_a_mirror(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mistakes are told before anything is looked at."""
    (tmp_path / "data").mkdir()
    assert main(["fsck", "--data", str(tmp_path / "data"), "--from", "x"]) == 2
    assert "--repair" in capsys.readouterr().err
