"""Compiled modules that are kept: taken when they are ours; passed over, never run, when anything is wrong."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinrt import _core
from spinrt.errors import ModuleError
from spinrt.sandbox import cache
from spinrt.sandbox.cache import ModuleCache, compile_module
from tests.guests import wat

CODE = wat('(module (func (export "answer") (result i32) (i32.const 42)))')
OTHER = wat('(module (func (export "answer") (result i32) (i32.const 1)))')


class Counting:
    """Stands for the engine's `Module`, and counts what is compiled and what native code is taken from a file."""

    def __init__(self) -> None:
        self.compiled = self.taken = 0

    def __call__(self, code: bytes, name: str = "module", *, compiled: bool = False) -> _core.Module:
        if compiled:
            self.taken += 1
        else:
            self.compiled += 1
        return _core.Module(code, name, compiled=compiled)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Counting:
    found = Counting()
    monkeypatch.setattr(cache, "Module", found)
    return found


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where modules are kept in this test; made by the first that is."""
    path = tmp_path / "of its own" / "modules"
    monkeypatch.setenv("SPINRT_CACHE", str(path))
    return path


def entry(directory: Path) -> Path:
    """The one module that is kept."""
    (found,) = [path for path in directory.iterdir() if path.name != "key"]
    return found


def test_module_is_compiled_once(directory: Path, engine: Counting) -> None:
    """The second time it is taken, under the name of then, and is the same."""
    first = compile_module(CODE, "one")
    second = compile_module(CODE, "two")

    assert (engine.compiled, engine.taken) == (1, 1)
    assert (first.name, second.name) == ("one", "two")
    assert second.exports == first.exports == {"answer": ("function", ":i")}


def test_what_is_kept_leaves_no_cycles(directory: Path) -> None:
    """Whoever loads for ever needs no collector for it."""
    compile_module(CODE, "one")
    gc.collect()
    for _ in range(3):
        compile_module(CODE, "one")
    assert gc.collect() == 0


def test_everything_belongs_to_the_owner_alone(directory: Path) -> None:
    """Whatever the mask says."""
    before = os.umask(0)
    try:
        compile_module(CODE, "one")
    finally:
        os.umask(before)

    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert len(modes) == 2


@pytest.mark.parametrize("length", [0, 1, 15, 16, 47, 48, 49, 5000, -1])
def test_torn_file_is_passed_over_and_written_again(directory: Path, engine: Counting, length: int) -> None:
    """Cut anywhere."""
    compile_module(CODE, "one")
    whole = entry(directory).read_bytes()
    entry(directory).write_bytes(whole[:length])

    compile_module(CODE, "one")

    assert (engine.compiled, engine.taken) == (2, 0)
    assert entry(directory).read_bytes()[:16] == whole[:16]
    compile_module(CODE, "one")
    assert (engine.compiled, engine.taken) == (2, 1)


@pytest.mark.parametrize("place", [0, 15, 16, 47, 48, 60, -1])
def test_changed_file_is_never_run(directory: Path, engine: Counting, place: int) -> None:
    """One bit anywhere."""
    compile_module(CODE, "one")
    content = bytearray(entry(directory).read_bytes())
    content[place] ^= 1
    entry(directory).write_bytes(content)

    compile_module(CODE, "one")

    assert engine.taken == 0


def test_file_of_another_module_is_never_run(directory: Path, engine: Counting) -> None:
    """A name is signed too: files cannot be exchanged for each other."""
    compile_module(CODE, "one")
    first = entry(directory)
    content = first.read_bytes()
    first.unlink()
    compile_module(OTHER, "two")
    entry(directory).write_bytes(content)

    assert compile_module(OTHER, "two")
    assert engine.taken == 0


def _open_to_others(path: Path) -> None:
    path.chmod(0o640)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


def _foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("giving a file away needs root")
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("spoil", [_open_to_others, _link, _pipe, _directory, _foreign])
@pytest.mark.parametrize("what", ["entry", "key"])
def test_file_that_is_not_ours_alone_is_never_used(
    directory: Path, engine: Counting, spoil: Callable[[Path], None], what: str
) -> None:
    """Mode, owner, links, pipes: neither as a module nor as a key; compiling goes on."""
    compile_module(CODE, "one")
    spoil(entry(directory) if what == "entry" else directory / "key")

    assert compile_module(CODE, "one").exports
    assert engine.taken == 0


def test_new_key_makes_old_files_worthless(directory: Path, engine: Counting) -> None:
    """They are compiled and signed again."""
    compile_module(CODE, "one")
    (directory / "key").write_bytes(b"k" * 31)

    compile_module(CODE, "one")
    compile_module(CODE, "one")

    assert (engine.compiled, engine.taken) == (2, 1)
    assert len((directory / "key").read_bytes()) == 32


def _others_may_enter(directory: Path) -> None:
    directory.chmod(0o750)


def _belongs_to_another(directory: Path) -> None:
    _foreign(directory)


def _is_a_link(directory: Path) -> None:
    _link(directory)


def _is_a_file(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.write_bytes(b"")


@pytest.mark.parametrize("spoil", [_others_may_enter, _belongs_to_another, _is_a_link, _is_a_file])
def test_directory_that_is_not_ours_alone_is_not_used(
    directory: Path, engine: Counting, spoil: Callable[[Path], None]
) -> None:
    """Nothing is read from it, and nothing written."""
    compile_module(CODE, "one")
    spoil(directory)
    before = sorted(directory.iterdir()) if directory.is_dir() else []

    compile_module(CODE, "one")
    compile_module(OTHER, "two")

    assert (engine.compiled, engine.taken) == (3, 0)
    assert (sorted(directory.iterdir()) if directory.is_dir() else []) == before


@pytest.mark.parametrize(
    "variables",
    [
        {"SPINRT_CACHE": "off"},
        {"SPINRT_CACHE": "/proc/nowhere"},
        {"SPINRT_CACHE": "", "XDG_CACHE_HOME": "/dev/null"},
    ],
)
def test_without_a_directory_modules_are_compiled(
    monkeypatch: pytest.MonkeyPatch, engine: Counting, variables: dict[str, str]
) -> None:
    """Whether nobody wants one or there can be none."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert compile_module(CODE, "one").exports == compile_module(CODE, "one").exports
    assert (engine.compiled, engine.taken) == (2, 0)


def test_default_directory_lies_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below what others may enter, one that they may not."""
    monkeypatch.setenv("SPINRT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compile_module(CODE, "one")

    assert entry(tmp_path / "spinrt" / "modules").stat().st_size > 100


def test_module_that_is_refused_leaves_nothing(directory: Path) -> None:
    """And its error is the engine's."""
    with pytest.raises(ModuleError, match="module bad"):
        compile_module(b"\0asm", "bad")
    assert list(directory.iterdir()) == []


def test_other_versions_have_other_entries(
    directory: Path, engine: Counting, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Of spinrt, and of the engine."""
    request.addfinalizer(cache._made_by.cache_clear)
    compile_module(CODE, "one")
    for changed in ("spinrt", "wasmtime"):
        monkeypatch.setattr(cache, "version", lambda name, changed=changed: f"{name == changed}")
        cache._made_by.cache_clear()
        compile_module(CODE, "one")

    assert (engine.compiled, engine.taken) == (3, 0)


def test_what_another_engine_compiled_is_compiled_again(directory: Path, engine: Counting) -> None:
    """Signed, but the engine does not know its format."""
    compile_module(CODE, "one")
    kept = ModuleCache(directory)

    class Strange:
        def serialized(self) -> bytes:
            return b"\x7fELF of another version"

    kept.write(CODE, Strange())  # type: ignore[arg-type]

    assert compile_module(CODE, "one").exports
    assert (engine.compiled, engine.taken) == (2, 1)


def test_size_is_bounded_and_what_is_used_stays(tmp_path: Path) -> None:
    """The entries that were not used for longest go; the key stays."""
    tmp_path.chmod(0o700)
    codes = [wat(f'(module (func (export "f{number}") (result i32) (i32.const {number})))') for number in range(6)]
    size = len(_core.Module(codes[0]).serialized())
    kept = ModuleCache(tmp_path, bytes_max=4 * size + size // 2)
    for number, code in enumerate(codes):
        kept.write(code, _core.Module(code))
        for place in range(number + 1):  # time stamps may be coarse: say when each was used
            path = tmp_path / kept._name(codes[place])
            if path.exists():
                os.utime(path, (place, place))
        assert number == 0 or kept.read(codes[0], "used") is not None

    left = [kept.read(code, "left") is not None for code in codes]
    assert left[0] and left[-1]
    assert left.count(True) == 4
    assert (tmp_path / "key").exists()


def test_processes_share_a_directory(directory: Path) -> None:
    """Several at once that compile the same modules: all succeed, and one key is there at the end."""
    program = (
        "import wasmtime; from spinrt.sandbox.cache import compile_module\n"
        "for turn in range(8):\n"
        "    compile_module(bytes(wasmtime.wat2wasm(f'(module (func (export \"f{turn % 3}\")))')), 'm')\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", program], env=os.environ) for _ in range(4)]

    assert [one.wait(timeout=120) for one in running] == [0] * 4
    assert {path.name[0] == "." for path in directory.iterdir()} == {False}
    assert len(list(directory.iterdir())) == 4


def test_kept_module_works(directory: Path) -> None:
    """Its code runs."""
    from tests.guests import limits

    compile_module(CODE, "one")
    module: Any = compile_module(CODE, "one")
    instance = _core.Instance(module, (), limits(), "kept")
    u32 = _core.ScalarPlan("u32")

    assert _core.Export(instance, "answer", _core.FunctionPlan("answer", (), u32))(None) == 42
