"""The benchmark harness: its arithmetic, its fairness, its one format."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks import harness
from benchmarks.harness import Options, Result, Row, Target


def found(options: Options) -> Result:
    """A benchmark that finds the same always."""
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    targets = [
        Target("fast", 2.0, "<=", 3.0),
        Target("slow", 2.0, ">=", 3.0),
        Target("peer", None, "<=", 2.0, reason="dovecot is not installed"),
    ]
    return Result([Row.of("noop", values, "µs", {"messages": 20 if options.quick else 1000})], targets)


def test_json_has_the_format_that_programs_rely_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Key for key; a missed target is shown as missed and a peer that is missing gives null; the exit code is 0."""
    assert harness.main("x", found, ["--quick", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    where = shown.pop("machine")
    assert shown == {
        "benchmark": "x",
        "command": "spinrt bench x --quick --json",
        "rows": [
            {
                "name": "noop",
                "params": {"messages": 20},
                "unit": "µs",
                "median": 3.0,
                "low": 2.0,
                "high": 4.0,
                "runs": 5,
            }
        ],
        "targets": [
            {"name": "fast", "value": 2.0, "relation": "<=", "limit": 3.0, "met": True},
            {"name": "slow", "value": 2.0, "relation": ">=", "limit": 3.0, "met": False},
            {
                "name": "peer",
                "value": None,
                "relation": "<=",
                "limit": 2.0,
                "met": None,
                "reason": "dovecot is not installed",
            },
        ],
    }
    assert {"cpu", "cores", "kernel", "python", "versions"} <= where.keys()
    assert where["cores"] >= 1


def test_text_shows_rows_and_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    """People see each row, and for each target whether it was met."""
    assert harness.main("x", found, []) == 0

    text = capsys.readouterr().out
    assert "messages=1000" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert lines["fast"].endswith("met")
    assert lines["slow"].endswith("MISSED")
    assert lines["peer"].endswith("not measured: dovecot is not installed")


def test_compare_interleaves_and_drops_the_warm_up() -> None:
    """Each round runs every subject once, not always in the same order; warm-up rounds do not count."""
    ran: list[str] = []

    def subject(name: str) -> harness.Subject:
        def run() -> float:
            ran.append(name)
            return float(len(ran))

        return run

    measured = harness.compare({name: subject(name) for name in "abc"}, 8, warm_up=2)

    rounds = [tuple(ran[index : index + 3]) for index in range(0, len(ran), 3)]
    assert len(rounds) == 10
    assert all(sorted(once) == ["a", "b", "c"] for once in rounds)
    assert len(set(rounds)) > 1
    assert {len(values) for values in measured.values()} == {8}
    assert min(min(values) for values in measured.values()) == 7.0


def test_ratio_pairs_rounds() -> None:
    """A machine that slows down for both subjects leaves the ratio alone."""
    assert harness.ratio([2.0, 20.0, 6.0], [1.0, 10.0, 3.0]) == 2.0


@pytest.mark.parametrize(("values", "expected"), [([7.0], (7.0, 7.0)), ([1.0, 2.0, 3.0], (1.5, 2.5))])
def test_quartiles(values: list[float], expected: tuple[float, float]) -> None:
    assert harness.quartiles(values) == expected


def test_third_fastest_wants_enough_runs() -> None:
    assert harness.third_fastest([8, 7, 6, 5, 4, 3, 2, 1]) == 3
    with pytest.raises(ValueError, match="expected at least 8"):
        harness.third_fastest([1.0] * 7)


def test_target_is_honest() -> None:
    """No value without a reason, and what is not a number is never met."""
    with pytest.raises(ValueError, match="needs a reason"):
        Target("x", None, "<=", 1.0)
    assert Target("x", math.nan, "<=", 1.0).met is False
    assert Target("x", math.nan, ">=", 1.0).met is False
    assert Target("x", 1.0, "<=", 1.0).met is True
    assert Target("x", 1.0, ">=", 1.0).met is True


@pytest.mark.parametrize(("load", "busy"), [(0.1, False), (64.0, True)])
@pytest.mark.parametrize("quick", [False, True])
def test_a_missed_target_says_what_else_may_be_the_reason(
    load: float, busy: bool, quick: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short run, a busy machine, or nothing that is known."""
    monkeypatch.setattr(harness.os, "getloadavg", lambda: (load, load, load))
    assert harness.main("x", found, ["--quick"] if quick else []) == 0
    hint = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("MISSED: "))
    assert ("--quick measures briefly" in hint) is quick
    assert ("the load is 64.0" in hint) is busy
    assert "measure again" in hint
