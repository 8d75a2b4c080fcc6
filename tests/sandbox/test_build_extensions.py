"""Building: the shipped modules are what their sources say, and whatever goes wrong is said plainly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import spinrt
from spinrt.cli.main import main
from spinrt.errors import BuildError, ManifestError, UnresolvedImport
from spinrt.sandbox import build
from spinrt.sandbox.build import build_all, build_extension

SHIPPED = Path(spinrt.__file__).parent / "extensions"
SOURCES = Path(spinrt.__file__).parent.parent / "extensions"

MANIFEST = """
spinrt: 1
name: small
version: 1.0.0
module: small.wasm
exports: [spinrt:extension/lifecycle@1.0.0]
build: {sources: [small.c]}
"""
INIT = """
#include "guest.h"
spin_result_void_string_t export_extension_lifecycle_init(void)
{ return (spin_result_void_string_t){ .is_err = false }; }
"""


def write(directory: Path, source: str = INIT, manifest: str = MANIFEST) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "manifest.yaml").write_text(manifest)
    (directory / "small.c").write_text(source)
    return directory


@pytest.mark.skipif(not SOURCES.is_dir(), reason="needs a checkout")
def test_shipped_modules_are_built_from_their_sources(tmp_path: Path) -> None:
    """Built again elsewhere, every byte is the same; nothing is shipped that has no source."""
    moved = shutil.copytree(SOURCES, tmp_path / "moved" / "away")

    built = build_all(moved, tmp_path / "out", report=pytest.fail)

    assert sorted(path.name for path in built) == sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())
    for directory in built:
        for file in directory.iterdir():
            shipped = SHIPPED / directory.name / file.name
            assert shipped.read_bytes() == file.read_bytes(), f"{shipped} is old: run `spinrt build`"


def test_modules_hold_nothing_of_the_machine(tmp_path: Path) -> None:
    """No paths, and a memory no larger than the module needs."""
    code = (build_extension(write(tmp_path / "ext"), tmp_path / "out") / "small.wasm").read_bytes()

    assert str(tmp_path).encode() not in code and b"/home" not in code and b"spinrt-build-" not in code
    assert len(code) < 2000


def test_compiler_messages_are_shown(tmp_path: Path) -> None:
    """What the compiler said of the source, with file and line."""
    with pytest.raises(BuildError, match=r"(?s)build of small.*small\.c:4.*undeclared"):
        build_extension(write(tmp_path / "ext", INIT.replace("false", "flase")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_functions_are_shown(tmp_path: Path) -> None:
    """A promised function that nobody wrote does not link."""
    with pytest.raises(BuildError, match="export_extension_lifecycle_init"):
        build_extension(write(tmp_path / "ext", '#include "guest.h"\n'), tmp_path / "out")


def test_the_error_says_what_the_manifest_lacks_or_promises(tmp_path: Path) -> None:
    """The compiler knows nothing of manifests."""
    unknown = INIT.replace("{ return", "{ logging_logging_log(0); return")
    with pytest.raises(BuildError, match="undeclared") as caught:
        build_extension(write(tmp_path / "ext", unknown), tmp_path / "out")
    assert "`- interface: spinrt:logging/logging@1.0.0` under `imports`" in caught.value.hint

    with pytest.raises(BuildError, match=r"error: guest\.o: undefined symbol") as caught:
        build_extension(write(tmp_path / "ext", '#include "guest.h"\n'), tmp_path / "out")
    assert "promises spinrt:extension/lifecycle@1.0.0" in caught.value.hint


def test_sources_elsewhere_are_refused(tmp_path: Path) -> None:
    """Neither by dots nor by a link."""
    (tmp_path / "away.c").write_text(INIT)
    dotted = write(tmp_path / "dotted", manifest=MANIFEST.replace("small.c", "../away.c"))
    linked = write(tmp_path / "linked")
    (linked / "small.c").unlink()
    (linked / "small.c").symlink_to(tmp_path / "away.c")

    for directory in (dotted, linked):
        with pytest.raises(BuildError, match="expected a file below"):
            build_extension(directory, tmp_path / "out")


def test_a_module_of_an_earlier_name_goes(tmp_path: Path) -> None:
    """What lies in the output is one manifest and its module."""
    build_extension(write(tmp_path / "ext"), tmp_path / "out")

    built = build_extension(
        write(tmp_path / "ext", manifest=MANIFEST.replace("small.wasm", "new.wasm")), tmp_path / "out"
    )

    assert sorted(path.name for path in built.iterdir()) == ["manifest.yaml", "new.wasm"]


def test_the_command_takes_interfaces_of_ones_own(tmp_path: Path) -> None:
    """`--wit`, as `spinrt bindgen` has it."""
    (tmp_path / "shop.wit").write_text("package a:shop@1.0.0;\ninterface rules { price: func(cents: u32) -> u32; }\n")
    manifest = MANIFEST.replace("exports: [spinrt:extension/lifecycle@1.0.0]", "exports: [a:shop/rules@1.0.0]")
    source = '#include "guest.h"\nuint32_t export_shop_rules_price(uint32_t cents) { return cents; }\n'
    directory = write(tmp_path / "ext", source, manifest)
    out = tmp_path / "out"

    assert main(["build", str(directory), "--out", str(out)]) != 0
    assert main(["build", str(directory), "--out", str(out), "--wit", str(tmp_path / "shop.wit")]) == 0
    assert (out / "small" / "small.wasm").exists()


def test_modules_that_do_not_fit_are_not_put_in_place(tmp_path: Path) -> None:
    """A module that imports what is no interface is refused before anything is written."""
    imported = '__attribute__((import_module("env"), import_name("other"))) extern int other(void);'
    source = f'{INIT}{imported}\n__attribute__((export_name("f"))) int f(void) {{ return other(); }}'
    with pytest.raises(UnresolvedImport, match="env#other"):
        build_extension(write(tmp_path / "ext", source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_warnings_are_reported(tmp_path: Path) -> None:
    """They do not stop the build."""
    said: list[str] = []
    source = INIT.replace("{ return", "{ int unused; return")

    build_extension(write(tmp_path / "ext", source), tmp_path / "out", report=said.append)

    assert len(said) == 1 and "unused" in said[0]


@pytest.mark.parametrize(
    ("manifest", "error", "message"),
    [
        (MANIFEST.replace("build: {sources: [small.c]}", ""), BuildError, "has no `build`"),
        (MANIFEST.replace("small.c", "other.c"), BuildError, "no source file"),
        (MANIFEST.replace("spinrt: 1", "spinrt: 2"), ManifestError, "spinrt"),
    ],
)
def test_manifests_that_cannot_be_built(tmp_path: Path, manifest: str, error: type[Exception], message: str) -> None:
    """The error names what is missing."""
    with pytest.raises(error, match=message):
        build_extension(write(tmp_path / "ext", manifest=manifest), tmp_path / "out")


def test_without_the_compiler_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(BuildError) as caught:
        build_extension(write(tmp_path / "ext"), tmp_path / "out")
    assert "spinrt[build]" in caught.value.hint


def test_a_slow_compiler_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a bound on how long it may take."""
    monkeypatch.setattr(build, "COMPILE_TIMEOUT_S", 0.000001)

    with pytest.raises(BuildError, match="took over"):
        build_extension(write(tmp_path / "ext"), tmp_path / "out")


def test_build_all_of_nothing_is_an_error(tmp_path: Path) -> None:
    """An empty directory has no extensions."""
    with pytest.raises(BuildError, match="no extension below"):
        build_all(tmp_path, tmp_path / "out")
