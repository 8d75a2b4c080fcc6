"""Names and lines of backtraces: of real C, and of bytes that a stranger wrote."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from spinrt.sandbox.build import toolchain_environment
from spinrt.sandbox.dwarf import Lines
from spinrt.sandbox.rewrite import prepare
from spinrt.sandbox.symbols import STUB, Frame, Symbols

SOURCE = """\
static int seen;

__attribute__((noinline)) static int deep(int x) {
    seen = x;
    *(volatile int *)0xffff0000u = x;
    return x * 3;
}

__attribute__((noinline)) int middle(int x) {
    return deep(x) + 1;
}

__attribute__((export_name("go"))) int go(int x) {
    return middle(x) + seen;
}
"""
EXPECTED = [("deep", 5), ("middle", 10), ("go", 14)]

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs the compiler in ziglang")


def compiled(directory: Path, *options: str) -> bytes:
    source, module = directory / "trap.c", directory / "trap.wasm"
    source.write_text(SOURCE, encoding="utf-8")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding", "-nostdlib", "-O1"]
    command += ["-Wl,--no-entry", *options, str(source), "-o", str(module)]
    subprocess.run(command, check=True, capture_output=True, env=toolchain_environment(), timeout=100)
    return module.read_bytes()


def trapped(code: bytes) -> list[tuple[str, int, int]]:
    """Frames of the trap, as a `Trace` gives them."""
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    store = wasmtime.Store(wasmtime.Engine(config))
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, code), [])
    with pytest.raises(wasmtime.Trap) as caught:
        instance.exports(store)["go"](store, 13)
    return [("", frame.func_index, frame.module_offset) for frame in caught.value.frames]


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_lines_of_real_c(tmp_path: Path, version: int) -> None:
    """Each frame with the function's name, the file and the line, whatever the version of the debug information."""
    code = compiled(tmp_path, "-g", f"-gdwarf-{version}")
    frames = Symbols(code, code, "test").frames(trapped(code))
    assert [(frame.name, frame.line) for frame in frames] == EXPECTED
    assert all(frame.file.endswith("trap.c") for frame in frames)
    assert str(frames[0]).startswith("deep at ")


@pytest.mark.parametrize("undo_bytes", [0, 65536])
def test_offsets_are_the_authors(tmp_path: Path, undo_bytes: int) -> None:
    """Also where the code that ran was rewritten."""
    code = compiled(tmp_path, "-g")
    made = prepare(code, memory_pages_max=64, table_entries_max=64, undo_bytes=undo_bytes).code
    assert made != code
    rewritten = Symbols(code, made, "test", undo_bytes=undo_bytes).frames(trapped(made))
    assert rewritten == Symbols(code, code, "test").frames(trapped(code))


def test_stripped_modules_show_numbers(tmp_path: Path) -> None:
    """Exports still have names."""
    code = compiled(tmp_path, "-s")
    frames = Symbols(code, code, "test").frames(trapped(code))
    assert [frame.name for frame in frames] == ["", "", "go"]
    assert {frame.line for frame in frames} == {0}


def test_frames_of_the_runtime_are_left_out() -> None:
    """What walks handlers is nobody's code; what makes no sense stays a number."""
    symbols = Symbols(b"no module", b"nor this", "test")
    assert symbols.frames([("", 3, 77), (STUB, 0, 12)]) == [Frame(3, "", -1)]


# ----------------------------------------------------------------------------------------------- what strangers write


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from spinrt.sandbox.binary import parse
    from spinrt.sandbox.symbols import _custom_sections

    return _custom_sections(parse(compiled(tmp_path_factory.mktemp("c"), "-g", "-gdwarf-5"), "test"))


@given(data=st.data())
def test_damaged_line_tables_cost_lines_only(sections: dict[str, bytes], data: st.DataObject) -> None:
    """Any bytes changed, anything cut off: an answer or none, never an error."""
    damaged = bytearray(sections[".debug_line"])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    lines = Lines({**sections, ".debug_line": bytes(damaged[:end])}, 1 << 16)
    for address in (0, 1, 100, 1 << 40):
        lines.find(address)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_table_or_none(data: bytes) -> None:
    """With every version in front."""
    for version in range(7):
        unit = version.to_bytes(2, "little") + data
        Lines({".debug_line": len(unit).to_bytes(4, "little") + unit, ".debug_line_str": data}, 100).find(50)


def test_a_table_of_a_billion_empty_entries_is_refused_at_once() -> None:
    """Nothing is read that is not there."""
    header = bytes([1, 1, 1, 0xFB, 14, 13]) + bytes(12) + b"\0" + b"\x80\x80\x80\x80\x04" + b"\0\0"
    unit = b"\5\0\4\0" + len(header).to_bytes(4, "little") + header
    started = time.process_time()
    assert Lines({".debug_line": len(unit).to_bytes(4, "little") + unit}, 100).find(50) is None
    assert time.process_time() - started < 60  # it would take hours
