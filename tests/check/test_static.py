"""``spinrt check --static``: what an author is told before a server sees the extension."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from spinrt.check.report import StaticReport, examine
from spinrt.check.subject import manifest_of
from spinrt.cli.main import main
from spinrt.errors import ModuleError
from spinrt.mail.extensions import SHIPPED
from tests.check.support import interfaces, subject
from tests.guests import BUMP, EVENTS, HOST, TEST_WIT, wat
from tests.mail.test_reload import write


def check(*arguments: str | Path) -> int:
    return main(["check", "--static", *map(str, arguments)])


def examined(body: str, **manifest: Any) -> StaticReport:
    """The report on a module, under a manifest or alone."""
    return examine(subject(body, **manifest)).report


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/manifest.yaml")))
def test_shipped_extensions_are_good_with_what_they_ask_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The grants that are printed are a policy that links."""
    assert check(SHIPPED / name) == 0
    out = capsys.readouterr().out
    assert f"{name} " in out.splitlines()[0]
    assert out.splitlines()[0].endswith(": loads")
    grants = yaml.safe_load(out[out.index("extensions:") :])["extensions"][name]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(grants))
    assert check(SHIPPED / name, "--policy", tmp_path / "policy.yaml") == 0


def test_missing_grants_are_listed_with_their_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, every import that is not granted, and what would grant it."""
    (tmp_path / "policy.yaml").write_text("grants: {}\n")
    assert check(SHIPPED / "delivery", "--policy", tmp_path / "policy.yaml") == 2
    captured = capsys.readouterr()
    assert "missing delivery: spinrt:mail/delivery@1.0.0: discard: func() -> result<_, problem> (not granted)" in (
        captured.out
    )
    assert "to grant it, put under extensions.delivery.grants" in captured.err


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("[1]", "expected a mapping"),
        ("{", "not YAML"),
        ("grant: {}", "expected only"),
        ("grants: {'spinrt:mail/massage@1.0.0': {}}", "did you mean 'spinrt:mail/message@1.0.0'"),
    ],
)
def test_wrong_policies_are_one_line(
    policy: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what was expected."""
    (tmp_path / "policy.yaml").write_text(policy)
    assert check(SHIPPED / "delivery", "--policy", tmp_path / "policy.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_extensions_that_do_not_load_or_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No directory and no module are usage (2); a start function that traps is a failure of the extension (1)."""
    assert check(tmp_path / "nowhere") == 2
    assert check(write(tmp_path / "a", "1.0.0", module=b"nonsense")) == 2
    trap = wat("(module (func $s unreachable) (start $s))")
    assert check(write(tmp_path / "a", "1.0.0", module=trap)) == 1
    assert "unreachable" in capsys.readouterr().err.splitlines()[-1]
    assert check(tmp_path / "a", "--policy", tmp_path / "none.yaml") == 2


def test_a_bare_module_asks_for_what_it_imports_and_handles_what_it_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is that of the file; interfaces of one's own come with --wit."""
    (tmp_path / "Some Guest.wasm").write_bytes(
        wat(f'(module (import "{HOST}" "again" (func)) (func (export "{EVENTS}#ping") (call 0)))')
    )
    (tmp_path / "test.wit").write_text(TEST_WIT)
    assert check(tmp_path / "Some Guest.wasm", "--wit", tmp_path / "test.wit", "--json") == 0
    found = json.loads(capsys.readouterr().out)["static"]
    assert found["name"] == "some-guest"
    assert [handler["event"] for handler in found["handlers"]] == [f"{EVENTS}#ping"]
    assert found["handlers"][0]["reaches"] == [f"{HOST}#again"]
    assert found["imports"] == [
        {"interface": HOST, "function": "again", "granted": True, "served": True, "pure": False}
    ]


def test_reach_follows_direct_and_indirect_calls_and_no_others() -> None:
    """What only another export calls is not reached; what a table holds is."""
    found = examined(
        f"""(import "{HOST}" "again" (func $again)) (import "{HOST}" "note" (func $note (param i32 i32)))
        (type $quiet (func)) (table funcref (elem $through)) {BUMP}
        (func $through (call $again) (i32.store (i32.const 0) (i32.const 1)))
        (func (export "{EVENTS}#ping") (call_indirect (type $quiet) (i32.const 0)))
        (func (export "{EVENTS}#add") (param i32 i32) (result i32)
          (call $note (i32.const 0) (i32.const 0)) (i32.const 1))"""
    )
    reached = {handler.event.partition("#")[2]: handler for handler in found.handlers}
    assert reached["ping"].reaches == (f"{HOST}#again",)
    assert reached["ping"].changes["stores"] == 1
    assert reached["add"].reaches == (f"{HOST}#note",)
    assert found.is_good


def test_refused_constructs_are_named_with_function_and_offset() -> None:
    """All of them, besides the reason why it does not load."""
    found = examined(
        f"""(table 1 4 funcref) (func $grow (drop (table.grow (ref.null func) (i32.const 1))))
        (func (export "{EVENTS}#ping") (call $grow) (drop (table.grow (ref.null func) (i32.const 1))))"""
    )
    assert len(found.refused) == 2
    assert all("table.grow" in line and "at offset 0x" in line for line in found.refused)
    imported = examined('(import "env" "memory" (memory 1))', handlers=[])
    assert imported.refused == ("import of a memory: env#memory",)
    assert not imported.is_good


def test_handlers_of_the_wrong_type_are_told_apart_from_other_mistakes() -> None:
    """The handler that does not fit says so; the others do not."""
    found = examined(
        f"""(func (export "{EVENTS}#ping")) (func (export "{EVENTS}#add") (param i64) (result i32) (i32.const 1))""",
        handlers=[{"event": f"{EVENTS}#ping"}, {"event": f"{EVENTS}#add"}],
    )
    by_event = {handler.event.partition("#")[2]: handler for handler in found.handlers}
    assert by_event["ping"].problem == ""
    assert "expected (i32, i32) -> (i32)" in by_event["add"].problem
    assert by_event["add"].type == "add: func(left: u32, right: u32) -> u32"
    assert not found.is_good


def test_guards_are_judged() -> None:
    """What a guard changes and is put back, and what keeps it from being one."""
    found = examined(
        f"""(memory (export "memory") 1) (func (export "{EVENTS}#ping"))
        (func (export "writes") (result i32) (i32.store (i32.const 0) (i32.const 1)) (i32.const 1))""",
        handlers=[{"event": f"{EVENTS}#ping", "guard": "writes"}],
    )
    (guard,) = found.guards
    assert guard.export == "writes"
    assert "i32.store" in guard.changes
    assert guard.obstacle == ""


def test_exported_names_that_mean_nothing_are_listed() -> None:
    """Allocator, memory, clean-up and what linkers export are known."""
    found = examined(
        f"""{BUMP} (global (export "__heap_base") i32 (i32.const 1)) (func (export "{EVENTS}#ping"))
        (func (export "main")) (global (export "secret") i32 (i32.const 1))""",
        handlers=[{"event": f"{EVENTS}#ping"}],
    )
    assert found.unknown_exports == ("main (function)", "secret (global)")


def test_limits_show_what_was_asked_and_what_is_given() -> None:
    """The lower of manifest and ceiling."""
    found = examined(f'(func (export "{EVENTS}#ping"))', limits={"memory_bytes": 1 << 30, "handles": 3})
    rows = {row.name: row for row in found.limits}
    assert rows["memory_bytes"].asked == 1 << 30
    assert rows["memory_bytes"].given == rows["memory_bytes"].allowed < 1 << 30
    assert rows["handles"].given == 3


def test_what_is_no_module_has_no_manifest() -> None:
    """A bare file that cannot be read as one is an error by itself."""
    with pytest.raises(ModuleError):
        manifest_of(b"\0asm\1\0\0", "x.wasm", interfaces())
    assert manifest_of(wat("(module)"), "12 3.wasm", interfaces()).name == "module-12-3"


def test_handlers_say_how_they_are_installed(capsys: pytest.CaptureFixture[str]) -> None:
    """Conditions, order and the like, where they are not the usual ones."""
    handlers = [
        {"event": f"{EVENTS}#ping"},
        {
            "event": f"{EVENTS}#add",
            "when": [{"field": "left", "equals": 5}, {"field": "right", "at_least": 1}],
            "guard": "wants",
            "order": 7,
            "place": "first",
            "cancels": True,
        },
    ]
    found = examined(
        f"""(func (export "{EVENTS}#ping")) (func (export "{EVENTS}#add") (param i32 i32) (result i32) (i32.const 1))
        (func (export "wants") (param i32 i32) (result i32) (i32.const 1))""",
        handlers=handlers,
    )
    by_event = {handler.event.partition("#")[2]: handler.how for handler in found.handlers}
    assert by_event["ping"] == ""
    assert by_event["add"] == "when left equals 5 and right is at least 1 and guard wants, order 7, first, cancels"
    assert found.is_good
