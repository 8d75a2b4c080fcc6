"""Exports that a manifest names: handlers with a name, a closure or a filter of their own, and guards, in C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from spinrt.cli.main import main
from spinrt.errors import BuildError, ManifestError, ModuleError, SignatureMismatch
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.bindgen import Wanted, generate_c
from spinrt.sandbox.build import build_extension
from spinrt.sandbox.loader import check_extension, load_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.promised import promises, section_text
from spinrt.sandbox.wit import Interfaces, Source
from tests.guests import BUMP, wat

EVENTS = "test:named/events@1.0.0"
NAMES = [f"n{number}" for number in range(17)]
WIT = f"""
package test:named@1.0.0;
interface events {{
  add: func(left: u32, right: u32) -> u32;
  many: func({", ".join(f"{name}: u32" for name in NAMES)}) -> u32;
}}
"""
SOURCE = f"""
#include "guest.h"
uint32_t export_plain(uint32_t left, uint32_t right) {{ return left + right; }}
uint32_t export_named_events_add(uint64_t closure, uint32_t left, uint32_t right)
{{ return (uint32_t)closure + left * right; }}
uint32_t export_with_closure(uint64_t closure, {", ".join(f"uint32_t {name}" for name in NAMES)})
{{ return (uint32_t)closure + {" + ".join(NAMES)}; }}
bool export_both_odd(uint32_t left, uint32_t right) {{ return left & right & 1; }}
spin_tuple2_u32_u32_t export_swap_them(uint32_t left, uint32_t right)
{{ return (spin_tuple2_u32_u32_t){{ right, left }}; }}
"""
ADD, MANY = f"{EVENTS}#add", f"{EVENTS}#many"
HANDLERS: list[dict[str, Any]] = [
    {"event": ADD, "export": "swap-them", "filter": True, "order": 1},
    {"event": ADD, "export": "plain", "order": 2},
    {"event": ADD, "closure": 100, "guard": "both.odd", "order": 3},
    {"event": MANY, "export": "with-closure", "closure": 1000},
]
# One pointer for seventeen numbers, with a closure or without.
BY_MEMORY = f'(module {BUMP} (func (export "many-too") (param i32) (result i32) (i32.load (local.get 0))))'
DECLARED = BY_MEMORY[:-1] + '(@custom "spinrt.exports" "{}"))'


@pytest.fixture
def wit() -> Interfaces:
    return Interfaces.parse([Source("named.wit", WIT)])


def manifest(handlers: list[dict[str, Any]]) -> Manifest:
    return Manifest.parse(manifest_text(handlers))


def manifest_text(handlers: list[dict[str, Any]]) -> str:
    return yaml.safe_dump(
        {
            "spinrt": 1,
            "name": "named",
            "version": "1.0.0",
            "module": "named.wasm",
            "handlers": handlers,
            "build": {"sources": ["named.c"]},
        }
    )


def write(directory: Path, source: str = SOURCE) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "manifest.yaml").write_text(manifest_text(HANDLERS))
    (directory / "named.c").write_text(source)
    return directory


def test_a_guest_in_c_has_what_its_manifest_names(tmp_path: Path, wit: Interfaces) -> None:
    """Names, closures, filters and guards: each runs with what it was given."""
    built = build_extension(write(tmp_path / "ext"), tmp_path / "out", interfaces=wit)
    runtime = Runtime(interfaces=wit)
    add, many = runtime.define(ADD, fold="every"), runtime.define(MANY)
    runtime.load(load_extension(built, interfaces=wit), Policy())
    assert add.raise_(3, 5) == [8, 115]
    assert add.raise_(2, 5) == [7]
    assert many.raise_(*range(17)) == 1000 + sum(range(17))


def test_bindgen_takes_a_manifest_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it takes its directory; both write what a build makes by itself."""
    (tmp_path / "named.wit").write_text(WIT)
    directory = write(tmp_path / "ext")
    common = ["--wit", str(tmp_path / "named.wit"), "--out"]
    assert main(["bindgen", "--manifest", str(directory / "manifest.yaml"), *common, str(tmp_path / "a")]) == 0
    assert main(["bindgen", str(directory), *common, str(tmp_path / "b")]) == 0
    texts = [(tmp_path / where / "guest.h").read_text() for where in "ab"]
    assert texts[0] == texts[1]
    assert "uint32_t export_named_events_add(uint64_t closure, uint32_t left, uint32_t right);" in texts[0]
    assert "bool export_both_odd(uint32_t left, uint32_t right);" in texts[0]
    capsys.readouterr()
    assert main(["bindgen"]) == 2
    assert "expected an interface id, a directory or --manifest" in capsys.readouterr().err


def test_two_names_that_are_one_in_c_are_refused(wit: Interfaces) -> None:
    """They could not both be written."""
    handlers = [{"event": ADD, "export": "a-b"}, {"event": ADD, "export": "a.b"}]
    wanted = Wanted.of_manifest(manifest(handlers), wit)
    with pytest.raises(Exception, match="export_a_b"):
        generate_c(wit, wanted.imports, wanted.exports, wanted.named)


def test_one_export_of_two_types_is_refused(wit: Interfaces) -> None:
    """With a closure here and without one there."""
    handlers = [{"event": ADD, "export": "x"}, {"event": ADD, "export": "x", "closure": 1}]
    with pytest.raises(ManifestError, match="two types"):
        promises(manifest(handlers), wit)


def test_what_is_not_written_is_named(tmp_path: Path, wit: Interfaces) -> None:
    """The compiler's message, and what the manifest says."""
    directory = write(tmp_path / "ext", SOURCE.replace("export_both_odd", "export_even"))
    with pytest.raises(BuildError) as caught:
        build_extension(directory, tmp_path / "out", interfaces=wit)
    assert "the manifest names both.odd under `handlers`" in caught.value.hint


def test_a_closure_that_no_core_type_shows_must_be_declared(wit: Interfaces) -> None:
    """Seventeen numbers cross in memory: a module made without the closure looks the same, and is refused."""
    named = manifest([{"event": MANY, "export": "many-too", "closure": 7}])
    with pytest.raises(SignatureMismatch, match="found nothing that says whether it takes a closure"):
        check_extension(named, wat(BY_MEMORY), interfaces=wit)
    declared = section_text(promises(named, wit)).replace("\t", "\\t").replace("\n", "\\n")
    assert check_extension(named, wat(DECLARED.format(declared)), interfaces=wit).exports["many-too"]
    without = manifest([{"event": MANY, "export": "many-too"}])
    assert check_extension(without, wat(BY_MEMORY), interfaces=wit).exports["many-too"]
    with pytest.raises(SignatureMismatch, match=r"the module says that it is func\(closure: u64, "):
        check_extension(without, wat(DECLARED.format(declared)), interfaces=wit)


def test_a_closure_that_the_core_type_shows_needs_no_word(wit: Interfaces) -> None:
    """The module's type is compared as ever."""
    named = manifest([{"event": ADD, "export": "f", "closure": 7}])
    good = '(module (func (export "f") (param i64 i32 i32) (result i32) (i32.const 0)))'
    assert check_extension(named, wat(good), interfaces=wit).exports["f"]
    with pytest.raises(SignatureMismatch, match=r"expected \(i64, i32, i32\)"):
        check_extension(named, wat(good.replace("i64 ", "")), interfaces=wit)


@pytest.mark.parametrize("text", ["many-too", "\\ff\\fe\\t"])
def test_a_malformed_section_is_refused(wit: Interfaces, text: str) -> None:
    """By name."""
    with pytest.raises(ModuleError, match=r"custom section spinrt\.exports"):
        check_extension(manifest([{"event": MANY, "export": "many-too"}]), wat(DECLARED.format(text)), interfaces=wit)
