"""The benchmark harness: its arithmetic, its fairness, its one format."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Options, Result, Row, Table, Target
from spinrt.cli.bench import EPILOG


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
                "interval": [1.0, 5.0],
                "confidence": 0.9375,
                "min": 1.0,
                "max": 5.0,
                "samples": 5,
                "command": "spinrt bench x --quick --json",
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


def test_a_row_of_samples_counts_runs_by_their_medians_and_keeps_every_sample() -> None:
    """The outlier of a run is in the tail and the extremes, and does not move the median."""
    row = Row.of_samples("x", [[1.0, 2.0, 3.0], [2.0, 3.0, 900.0], [3.0, 4.0, 5.0]], "ns", batch=10)
    assert (row.median, row.interval, row.runs, row.samples) == (3.0, (2.0, 4.0), 3, 9)
    assert (row.least, row.most) == (1.0, 900.0)
    assert row.as_json("again")["percentiles"] == {"batch": 10, "p50": 3.0, "p99": 900.0, "p99.9": 900.0}


def test_what_a_part_found_is_appended() -> None:
    """Rows, targets, notes, tables and what was skipped."""
    whole = found(Options())
    whole.add(Result(notes=["n"], tables=[Table("t", ["a"], [["1"]])], skipped={"p": "gone"}))
    assert (len(whole.rows), len(whole.targets), whole.notes) == (1, 3, ["n"])
    shown = harness.as_json("x", "spinrt bench x", whole)
    assert shown["skipped"] == {"p": "gone"}
    assert shown["tables"] == [{"title": "t", "columns": ["a"], "rows": [["1"]], "notes": []}]
    assert "Not measured: p: gone." in harness.as_text("x", "spinrt bench x", whole)


def test_rows_that_nobody_has_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2, and no traceback."""
    assert harness.main("x", lambda options: Result(), ["--only", "nope"], takes=["only"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("bench: usage: bench x: found no row 'nope' (")
    assert captured.err.count("\n") == 1


def test_an_option_that_a_benchmark_does_not_take_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names of those that do."""
    with pytest.raises(SystemExit):
        harness.main("x", found, ["--only", "noop"])
    assert "--only: x measures all of its rows together; filters and ipc can measure some" in capsys.readouterr().err


def test_those_that_measure_rows_alone_are_those_that_say_so() -> None:
    """And the help of the command names them."""
    takes = [path for path in Path(harness.__file__).parent.glob("bench_*.py") if '"only"' in path.read_text()]
    assert tuple(sorted(path.stem.removeprefix("bench_") for path in takes)) == harness.ROWS_ALONE
    assert f"of {' and '.join(harness.ROWS_ALONE)}: " in EPILOG


def test_the_json_is_saved_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main("x", found, ["--save", str(tmp_path / "x.json")]) == 0
    assert json.loads((tmp_path / "x.json").read_text())["command"] == "spinrt bench x"
    assert "noop" in capsys.readouterr().out


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
    assert ("the load was 64.0" in hint) is busy
    assert "measure again" in hint


def test_an_interruption_that_was_lost_ends_the_comparison_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Python drops what is raised while an object is deleted."""

    def losing() -> float:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        return 1.0

    def benchmark(options: Options) -> Result:
        harness.compare({"losing": losing}, 3)
        raise AssertionError("it went on")

    assert harness.main("x", benchmark, []) == 128 + signal.SIGTERM
    assert "interrupted by SIGTERM" in capsys.readouterr().err
    assert harness.main("x", found, []) == 0
