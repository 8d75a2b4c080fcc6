"""A read-only device behaves as a device of memory does over a copy, and changes no file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.storage.device import Device
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.testing.device import CrashDevice

NAMES = ("a", "b", "c")
STEP = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.binary(max_size=20)),
    st.tuples(st.just("truncate"), st.sampled_from(NAMES), st.integers(0, 30)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("create"), st.sampled_from(NAMES), st.just(0)),
)


def apply(device: Device, step: tuple[str, str, object]) -> bool:
    """Do a step; tell whether it could be done."""
    verb, name, value = step
    try:
        if verb == "remove":
            device.open(name).close()
            device.remove(name)
            return True
        file = device.open(name, create=verb == "create", write=True)
    except (FileExistsError, FileNotFoundError):
        return False
    if verb == "append":
        assert isinstance(value, bytes)
        file.append([value])
    elif verb == "truncate":
        assert isinstance(value, int)
        if value <= file.size():
            file.truncate(value)
    file.close()
    return True


def shown(device: Device) -> dict[str, list[bytes]]:
    """All that can be read: whole, and in pieces across every border."""
    found = {}
    for name in device.list():
        file = device.open(name)
        found[name] = [file.read(at, length) for at in range(0, 40, 7) for length in (0, 5, 100)]
        assert file.size() == len(file.read(0, 1000))
        file.close()
    return found


@given(st.lists(STEP, max_size=12))
def test_it_shows_what_was_done_and_writes_nothing(steps: list[tuple[str, str, object]]) -> None:
    """Step for step beside a device that does it."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        twin = CrashDevice()
        for name in NAMES[:2]:
            (Path(directory) / name).write_bytes(name.encode() * 15)
            twin.open(name, create=True, write=True).append([name.encode() * 15])
        device = ReadOnlyDevice(Path(directory))
        for step in steps:
            assert apply(device, step) == apply(twin, step)
            assert shown(device) == shown(twin)
        assert {path.name: path.read_bytes() for path in Path(directory).iterdir()} == {
            name: name.encode() * 15 for name in NAMES[:2]
        }


def test_patches_are_shown(tmp_path: Path) -> None:
    """One byte, wherever a read begins."""
    (tmp_path / "a").write_bytes(b"0123456789")
    device = ReadOnlyDevice(tmp_path)
    device.patch("a", 4, ord("x"))
    file = device.open("a")
    assert [file.read(at, 3) for at in range(8)] == [
        b"012", b"123", b"23x", b"3x5", b"x56", b"567", b"678", b"789",
    ]  # fmt: skip
    file.close()
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """And stays so."""
    device = ReadOnlyDevice(tmp_path / "nowhere")
    assert device.list() == []
    with pytest.raises(FileNotFoundError):
        device.open("a")
    assert not (tmp_path / "nowhere").exists()
