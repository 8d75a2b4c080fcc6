"""What real compilers make, instrumented: it does what it did, and a fault at any change is taken back."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from spinrt import _core
from tests.sandbox.undo_campaign import check_agreement, check_rollback, made

HERE = Path(__file__).parent
FEATURES = "mvp+bulk_memory+sign_ext+mutable_globals+nontrapping_fptoint"
LINKING = ["-Wl,--no-entry", "-Wl,-z,stack-size=4096", "-Wl,--export=__stack_pointer", "-Wl,--strip-debug"]
ZIG = ["-target", "wasm32-freestanding", "-fno-entry", "-rdynamic", "--stack", "4096", "-fstrip"]

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="no compiler: the Python package ziglang is not installed"
)


def compiled(out: Path, *arguments: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments], cwd=out, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return (out / "made.wasm").read_bytes()


def check_all(code: bytes, *, seeds: int = 3, **fitted: int) -> None:
    _core.Module(made(code, **fitted).code)
    for seed in range(seeds):
        check_agreement(code, seed, **fitted)
    assert check_rollback(code, 7, **fitted) > 50


@needs_compiler
@pytest.mark.parametrize("flags", [("-O2", f"-mcpu={FEATURES}+simd128"), ("-Os", f"-mcpu={FEATURES}"), ("-O0",)])
def test_c_is_taken_back(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Loops, bulk operations, vectors, a stack that is dead between calls."""
    source = str(HERE / "real_kernels.c")
    target = ["-target", "wasm32-freestanding", "-nostdlib", "-fno-sanitize=undefined"]
    code = compiled(tmp_path, "cc", *target, *flags, *LINKING, source, "-o", "made.wasm")
    log = made(code).log

    assert log is not None
    assert log.dead_below == 4096
    check_all(code)


@needs_compiler
@pytest.mark.parametrize("mode", ["ReleaseFast", "ReleaseSmall", "Debug"])
def test_zig_is_taken_back(tmp_path: Path, mode: str) -> None:
    """Another front end."""
    source = str(HERE / "real_kernels.zig")
    code = compiled(tmp_path, "build-exe", source, *ZIG, f"-O{mode}", "-femit-bin=made.wasm")

    check_all(code)


@needs_compiler
def test_a_whole_program_is_taken_back(tmp_path: Path) -> None:
    """A standard library at work: a map, JSON both ways, sorting, digests, blocks that make the memory grow."""
    source = str(HERE / "real_program.zig")
    code = compiled(tmp_path, "build-exe", source, *ZIG, "--stack", "65536", "-OReleaseFast", "-femit-bin=made.wasm")

    check_all(code, seeds=50, pages=64)
