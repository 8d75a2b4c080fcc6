"""The dispatch benchmark runs from end to end, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.bench_dispatch import QUICK, Derived, Scale, measure
from benchmarks.dispatch import peers
from benchmarks.dispatch.fleet import FALSE, MIXED, NONE, ONE, TRUE, Fleet, Shape, check_answer
from benchmarks.dispatch.installs import EMPTY
from benchmarks.harness import Result, as_json
from benchmarks.timing import key_of
from spinrt.errors import InternalError

TARGETS = {
    "raise_over_engine": ("<=", 1.6),
    "raise_python_over_call": ("<=", 1.5),
    "marginal_handler_over_engine": ("<=", 0.2),
    "guards_1000_over_1": ("<=", 3),
    "install_10000_over_100_each": ("<=", 2),
    "install_over_engine": ("<=", 1000),
    "host_call_over_engine": ("<=", 0.6),
    "over_wasmtime_py": (">=", 200),
    "over_extism": (">=", 200),
}
TINY = Scale(handlers=(1, 2, 6), guarded=7, bindings=(1, 2, 3), run_ns=10_000, rounds=2)
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.fixture(scope="module")
def result() -> Result:
    return measure(TINY)


def test_every_row_is_measured_and_told_apart_by_name_and_parameters(result: Result) -> None:
    """No two rows have the same key, each has the rounds asked for, and nothing takes no time."""
    keys = [key_of(row.name, row.params) for row in result.rows]
    assert len(set(keys)) == len(keys)
    assert {row.unit for row in result.rows} == {"ns", "x"}
    assert all(row.runs == 2 for row in result.rows)
    assert all(row.low > 0 for row in result.rows if row.name != "marginal_handler")


def test_raises_are_measured_for_every_case_that_the_issue_names(result: Result) -> None:
    """From Cython and from Python; 0, 1, 5 arguments; all counts; guards none, true, false and mixed."""
    for name in ("raise_from_cython", "raise_from_python"):
        found = {tuple(row.params.values()) for row in result.rows if row.name == name and "modules" not in row.params}
        assert found >= {(0, count, NONE) for count in TINY.handlers}
        assert found >= {
            (arguments, count, guards)
            for arguments in (1, 5)
            for count in TINY.handlers
            for guards in (NONE, TRUE, FALSE, MIXED)
        }
        assert (1, TINY.guarded, ONE) in found


def test_targets_are_those_that_the_issue_states(result: Result) -> None:
    """Names, relations and limits; where a peer is not installed there is a reason instead of a value."""
    assert {target.name: (target.relation, target.limit) for target in result.targets} == TARGETS
    assert all(target.value is not None or target.reason for target in result.targets)


def test_the_full_scale_has_the_sizes_that_targets_name() -> None:
    """``guards_1000_over_1`` is about 1,000 handlers, ``install_10000_over_100_each`` about 100 and 10,000."""
    for scale in (Scale(), QUICK):
        assert scale.handlers == (1, 5, 10, 50, 128)
        assert scale.guarded == 1000
        assert scale.bindings == (1, 100, 10_000)


def test_json_keys_are_documented(result: Result) -> None:
    """Programs rely on them: every name of a row, of a parameter and of a target stands in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text[text.index("\n## dispatch\n") :]
    shown = as_json("dispatch", "spinrt bench dispatch", result)
    names = {row["name"] for row in shown["rows"]} | {target["name"] for target in shown["targets"]}
    names |= {parameter for row in shown["rows"] for parameter in row["params"]}
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []


def test_a_peer_that_is_not_installed_leaves_its_target_without_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the peer are left out, its target says why, and everything else is as ever."""
    monkeypatch.setattr(peers, "find_spec", lambda package: None)
    result = measure(TINY)
    missing = {target.name: target.reason for target in result.targets if target.value is None}
    assert list(missing) == ["over_extism"]
    assert "extism is not installed" in missing["over_extism"]
    names = {row.name for row in result.rows}
    assert not names & {"extism_call", "pluggy_call", "over_pluggy"}
    assert names >= {"wasmtime_py_call", "python_list", "over_python_list"}


def numbers(changed: Mapping[str, list[float]]) -> Derived:
    """What is derived of rounds in which everything took 10 ns, but for what is given."""
    scale = Scale(rounds=2)
    shapes = [Shape(count, 1) for count in (0, 1, 5)] + [Shape(1, 8), Shape(1, 128), Shape(1, 1000, ONE)]
    keys = [
        *(key_of(name, shape.params) for name in ("raise_from_cython", "raise_from_python") for shape in shapes),
        *(key_of("raise_from_cython", Shape(1, count).params | {"modules": 128}) for count in (8, 128)),
        *(key_of(name, {"arguments": count}) for name in ("python_call", "engine_call") for count in (0, 1, 5)),
        *(key_of("install", {"bindings": count}) for count in scale.bindings),
        key_of("host_call", {"function": "cancel"}),
        *(key_of(name, {}) for name in ("wasmtime_py_call", "extism_call")),
        *(key_of(name, {"handlers": 1}) for name in ("pluggy_call", "python_list")),
    ]
    return Derived(scale, {key: [10.0, 10.0] for key in keys} | dict(changed))


def value(derived: Derived, name: str) -> float | None:
    return next(target.value for target in derived.targets() if target.name == name)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is twice as slow in one round changes nothing."""
    slower = numbers(
        {
            key_of("raise_from_cython", Shape(1, 1).params): [15.0, 30.0],
            key_of("engine_call", {"arguments": 1}): [10.0, 20.0],
        }
    )
    assert value(slower, "raise_over_engine") == 1.5
    assert (
        next(row for row in slower.rows() if row.name == "raise_over_engine" and row.params["arguments"] == 1).low
        == 1.5
    )


def test_cost_of_one_more_handler_is_the_slope() -> None:
    """From 8 to 128 handlers in 240 ns: 2 ns each, which is a fifth of an engine call of 10 ns."""
    derived = numbers(
        {
            key_of("raise_from_cython", Shape(1, 8).params): [30.0, 60.0],
            key_of("raise_from_cython", Shape(1, 128).params): [270.0, 300.0],
        }
    )
    assert derived.marginal() == [2.0, 2.0]
    assert derived.marginal(modules=128) == [0.0, 0.0]
    assert value(derived, "marginal_handler_over_engine") == pytest.approx(0.2)


def test_peers_are_compared_with_a_raise_from_cython() -> None:
    """Their time ÷ ours."""
    assert value(numbers({key_of("wasmtime_py_call", {}): [4000.0, 5000.0]}), "over_wasmtime_py") == 450


@pytest.mark.parametrize("guards", [NONE, TRUE, FALSE, MIXED, ONE])
@pytest.mark.parametrize("handlers", [1, 5])
def test_handlers_that_run_are_those_that_the_shape_says(guards: str, handlers: int) -> None:
    """What is measured is what the row says: an event that runs others is refused."""
    shape = Shape(1, handlers, guards)
    fleet = Fleet([shape, EMPTY], 2)
    event = fleet.event(shape)
    assert [binding.counts.raises for binding in event.bindings] == [int(shape.passes(at)) for at in range(handlers)]
    event.uninstall(event.bindings[0])
    with pytest.raises(InternalError, match="expected"):
        check_answer(event, Shape(1, handlers + 1, TRUE), 2)
