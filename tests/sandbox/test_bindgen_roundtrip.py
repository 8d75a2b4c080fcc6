"""Generated C and the core agree on every type: values go into a guest, out to the host, back in and back out.

For each type the guest has `export_…(value)` return what the imported function answers to the same value, so that one
raise lifts and lowers it on both sides, as parameter and as result. The two sides were written apart.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from spinrt.runtime.capability import Functions
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.abi import record_class
from spinrt.sandbox.bindgen import generate_c
from spinrt.sandbox.build import build_extension
from spinrt.sandbox.types import Err, Ok, RecordType
from spinrt.sandbox.wit import Interfaces, Source

HOST, GUEST = "test:echo/host@1.0.0", "test:echo/guest@1.0.0"

TYPES = """
package test:echo@1.0.0;
interface types {
  enum colour { red, green, blue }
  flags few { a, b, c }
  flags many { f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16 }
  record point { x: f64, name: string, small: u8 }
  record big { a: point, b: point, c: list<point>, d: option<u64>, e: point, f: char, g: point, h: point }
  variant number { none, int(u32), float(f32), long(s64), real(f64), text(string), at(point) }
  variant narrow { float(f32), int(s32) }
}
"""

CASES: dict[str, list[Any]] = {
    "bool": [True, False],
    "s8": [-128, 127],
    "u8": [0, 255],
    "s16": [-(2**15), 2**15 - 1],
    "u16": [0, 2**16 - 1],
    "s32": [-(2**31), 2**31 - 1],
    "u32": [0, 2**32 - 1],
    "s64": [-(2**63), 2**63 - 1],
    "u64": [0, 2**64 - 1],
    "f32": [0.0, -1.5, math.inf],
    "f64": [0.1, -math.inf, 5e-324],
    "char": ["a", "\0", "😀"],
    "string": ["", "grüße", "x" * 70_000],
    "list<u8>": [b"", b"\0\xff", bytes(200_000)],
    "list<s64>": [[], [-1, 2**62]],
    "list<list<string>>": [[], [[], ["a", "bb"]]],
    "option<u8>": [None, 0, 7],
    "option<f32>": [None, 2.5],
    "option<string>": [None, "", "x"],
    "list<option<u64>>": [[None, 1, None, 2**63]],
    "result": [Ok(), Err()],
    "result<u32>": [Ok(5), Err()],
    "result<_, string>": [Ok(), Err("no")],
    "result<f32, u64>": [Ok(1.25), Err(2**63)],
    "result<f64, f32>": [Ok(0.1), Err(0.5)],
    "result<option<u8>, colour>": [Ok(None), Ok(1), Err("blue")],
    "tuple<u8, f64, string>": [(1, 2.5, "three")],
    "tuple<u8>": [(9,)],
    "colour": ["red", "green", "blue"],
    "few": [frozenset(), frozenset("ac"), frozenset("abc")],
    "many": [frozenset(), frozenset(["f0", "f16"])],
    "narrow": [("float", -0.5), ("int", -5)],
    "number": [
        ("none", None),
        ("int", 2**32 - 1),
        ("float", 1.5),
        ("long", -1),
        ("real", 0.1),
        ("text", "x"),
        ("at", ("point", 1.0, "p", 2)),
    ],
    "option<number>": [None, ("float", 0.5), ("real", -0.1)],
    "point": [("point", -0.5, "origin", 255)],
    "list<point>": [[], [("point", 1.0, "a", 1), ("point", 2.0, "b", 2)]],
    "big": [
        ("big", *[("point", 1.0, "p", 1)] * 2, [("point", 2.0, "q", 2)] * 3, 5, ("point", 3.0, "r", 3), "ß")
        + (("point", 4.0, "s", 4),) * 2
    ],
}
USED = "use types.{colour, few, many, point, big, number, narrow};"
WIDE = ", ".join(f"p{index}: {('u8', 's64', 'f32', 'f64', 'char')[index % 5]}" for index in range(17))


def wit() -> Interfaces:
    functions = "".join(f"same{index}: func(value: {type_}) -> {type_};\n" for index, type_ in enumerate(CASES))
    body = f"{USED}\n{functions}wide: func({WIDE}) -> tuple<u8, s64>;"
    text = f"{TYPES}\ninterface host {{ {body} }}\ninterface guest {{ {body} }}"
    return Interfaces.parse([Source("echo.wit", text)])


def source(header: str) -> str:
    """Write each exported function as a call of the imported one of the same name."""
    lines = ['#include "guest.h"']
    for result, name, parameters in re.findall(r"^(\w+) export_echo_guest_(\w+)\((.*)\);$", header, re.MULTILINE):
        arguments = ", ".join(parameter.rsplit(" ", 1)[1] for parameter in parameters.split(", "))
        lines.append(f"{result} export_echo_guest_{name}({parameters}) {{ return echo_host_{name}({arguments}); }}")
    return "\n".join(lines)


MANIFEST = """
spinrt: 1
name: echo
version: 1.0.0
module: echo.wasm
imports: [test:echo/host@1.0.0]
handlers: [{handlers}]
limits: {{memory_bytes: 16777216, lift_bytes: 16777216, deadline_ms: 1000}}
build: {{sources: [echo.c]}}
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runtime, list[Any]]:
    """A runtime with the echoing guest, and the list of what the host saw."""
    directory: Path = tmp_path_factory.mktemp("echo")
    interfaces = wit()
    names = list(interfaces.get(GUEST).functions)
    (directory / "manifest.yaml").write_text(MANIFEST.format(handlers=", ".join(f'"{GUEST}#{name}"' for name in names)))
    (directory / "echo.c").write_text(source(generate_c(interfaces, [HOST], [GUEST])["guest.h"]))
    built = build_extension(directory, directory / "out", interfaces=interfaces, report=pytest.fail)
    seen: list[Any] = []

    def answer(call: Any, *arguments: Any) -> Any:
        seen.append(arguments)
        return arguments[0] if len(arguments) == 1 else arguments[:2]

    runtime = Runtime(interfaces=interfaces)
    runtime.export(Functions(HOST, dict.fromkeys(names, answer)))
    for name in names:
        runtime.define(f"{GUEST}#{name}")
    runtime.load(built, Policy.granting(HOST))
    return runtime, seen


def build_value(interfaces: Interfaces, value: Any) -> Any:
    """Turn ("point", …) and ("big", …) into values of those records, wherever they are inside."""
    if isinstance(value, list):
        return [build_value(interfaces, item) for item in value]
    if isinstance(value, tuple) and value and value[0] in ("point", "big"):
        type_ = interfaces.get("test:echo/types@1.0.0").types[value[0]]
        assert isinstance(type_, RecordType)
        return record_class(type_)(*(build_value(interfaces, item) for item in value[1:]))
    if isinstance(value, tuple):
        return tuple(build_value(interfaces, item) for item in value)
    return value


@pytest.mark.parametrize("type_", CASES)
def test_values_come_back_as_they_went(echo: tuple[Runtime, list[Any]], type_: str) -> None:
    """The host sees what was raised, and the raiser gets it back; twice, to meet an arena that was used before."""
    runtime, seen = echo
    event = runtime.events[f"{GUEST}#same{list(CASES).index(type_)}"]
    for value in [build_value(runtime.interfaces, value) for value in CASES[type_]] * 2:
        assert event.raise_(value) == value
        assert seen[-1] == (value,)
    assert runtime.domains["echo"].counters.faults == 0


def test_many_parameters_go_through_memory(echo: tuple[Runtime, list[Any]]) -> None:
    """Seventeen flat parameters are one too many for the core function's own."""
    runtime, seen = echo
    arguments = tuple((index, -index, index + 0.5, index - 0.25, chr(65 + index))[index % 5] for index in range(17))

    assert runtime.events[f"{GUEST}#wide"].raise_(*arguments) == arguments[:2]
    assert seen[-1] == arguments


def test_the_arena_is_empty_after_each_call(echo: tuple[Runtime, list[Any]]) -> None:
    """A thousand raises of 200 kB each need no more memory than one."""
    runtime, _ = echo
    event = runtime.events[f"{GUEST}#same{list(CASES).index('list<u8>')}"]
    payload = bytes(200_000)

    for _ in range(1000):
        assert event.raise_(payload) == payload
    assert runtime.domains["echo"].counters.faults == 0
