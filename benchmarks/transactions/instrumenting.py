"""How fast modules are rewritten: those of the shipped extensions, the kernels, and a large one.

The large one is a program that comes with the compiler and was written for WebAssembly: the viewer of its
documentation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import spinrt
from benchmarks.timing import Measure, Subject, key_of
from benchmarks.transactions.guests import UNDO_BYTES
from spinrt.errors import BuildError
from spinrt.sandbox.build import cache_directory, toolchain, toolchain_environment
from spinrt.sandbox.rewrite import prepare

INSTRUMENT: Final = "instrument"
SHIPPED: Final = ("audit", "delivery", "undo-hook")
KERNELS: Final = "kernels"
LARGE: Final = "zig-documentation"
"""What rows call the large module."""
PAGES_MAX: Final = 65_536
ENTRIES_MAX: Final = 1 << 20

_FLAGS: Final = (
    *("-fno-entry", "-rdynamic", "-fstrip", "-O", "ReleaseFast", "-target", "wasm32-freestanding"),
    "-mcpu=mvp+bulk_memory+sign_ext+mutable_globals+nontrapping_fptoint+multivalue+reference_types",
)


def modules(kernels: bytes) -> dict[str, bytes]:
    """Every module that is rewritten, by name."""
    shipped = Path(spinrt.__file__).parent / "extensions"
    return {
        **{name: (shipped / name / f"{name}.wasm").read_bytes() for name in SHIPPED},
        KERNELS: kernels,
        LARGE: large_module(),
    }


def large_module() -> bytes:
    """Compile the large module, or take what an earlier run made of the same sources by the same compiler.

    Raises:
        BuildError: There is no compiler, or it fails.
    """
    version = metadata.version("ziglang")
    key = hashlib.sha256("\0".join([version, *_FLAGS]).encode()).hexdigest()[:16]
    kept = cache_directory() / f"{LARGE}-{key}.wasm"
    if not kept.is_file():
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        _compile(made)
        made.replace(kept)
    return kept.read_bytes()


def _compile(out: Path) -> None:
    command = toolchain("build-exe")
    found = importlib.util.find_spec("ziglang")
    assert found is not None and found.origin is not None, "`toolchain` looked for it"
    sources = Path(found.origin).parent / "lib" / "docs" / "wasm"
    roots = ["--dep", "Walk", f"-Mroot={sources / 'main.zig'}", f"-MWalk={sources / 'Walk.zig'}"]
    done = subprocess.run(
        [*command, *_FLAGS, *roots, f"-femit-bin={out}"],
        env=toolchain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"build of {LARGE}: the compiler ended with status {done.returncode}:\n{done.stderr[:2000]}")


def subjects(found: Mapping[str, bytes]) -> list[Subject]:
    """From the bytes of each module to the bytes of the rewritten one."""
    return [Subject(INSTRUMENT, params(name, code), _rewriting(name, code)) for name, code in found.items()]


def params(name: str, code: bytes) -> dict[str, object]:
    """What tells these subjects apart."""
    return {"module": name, "bytes": len(code)}


def _rewriting(name: str, code: bytes) -> Measure:
    def run(calls: int) -> int:
        began = time.perf_counter_ns()
        for _ in range(calls):
            prepare(code, memory_pages_max=PAGES_MAX, table_entries_max=ENTRIES_MAX, undo_bytes=UNDO_BYTES, name=name)
        return time.perf_counter_ns() - began

    return run


def rates(found: Mapping[str, Sequence[float]], given: Mapping[str, bytes]) -> dict[str, list[float]]:
    """Megabytes a second, in each round, of every module."""
    return {
        name: [len(code) * 1e3 / ns for ns in found[key_of(INSTRUMENT, params(name, code))]]
        for name, code in given.items()
    }
