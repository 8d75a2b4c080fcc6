"""The page of all benchmarks: complete, by itself, well formed, and drawn where the values are."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import bench_all, units
from benchmarks.harness import Result, Row, Table, Target, as_json
from benchmarks.report import pictures, plot
from benchmarks.report.page import page
from benchmarks.report.plot import Mark, Plot

VOID = {"meta", "line", "circle"}
TIMEOUT_S = 60


class Checker(HTMLParser):
    """Every element that is opened is closed, in order; remembers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def found(name: str = "ipc") -> dict[str, Any]:
    """What a benchmark with something of everything found; hostile to a page where it can be."""
    rows = [
        Row.of_samples("pipe", [[2000.0, 2100.0], [2200.0, 9000.0]], "ns", {"bytes": 0, "cores": "same"}),
        Row.of_samples("spinrt_raise", [[20.0], [21.0]], "ns", batch=500),
        Row.of("pipe_rate", [4e5, 5e5], "calls/s", {"bytes": 0, "cores": "same", "outstanding": 16}),
        Row.of("lossy", [-1.0, 2.0], "ns", {"<b>": "&"}),
    ]
    targets = [
        Target("met", 100.0, ">=", 80),
        Target("missed", 2.0, "<=", 1),
        Target("gone", None, ">=", 1, "<script>alert(1)</script>"),
    ]
    table = Table("<T>", ["a", "b"], [["x", "17"]], ["see `spinrt <x>`"])
    result = Result(rows, targets, ["n & n"], [table], {"grpc": "not installed"}, "abc123")
    return json.loads(json.dumps(as_json(name, f"spinrt bench {name}", result)))


@pytest.fixture(scope="module")
def text() -> str:
    return page([found(), found("mail")], "spinrt bench all", "today", {"core": "exit code 1"})


def test_the_page_is_well_formed_and_needs_nothing_else(text: str) -> None:
    """No script, and nothing that is fetched."""
    checker = Checker(text)
    assert checker.open == []
    assert {tag for tag, _ in checker.elements}.isdisjoint({"script", "link", "img", "iframe", "object", "b"})
    assert not re.search(r"https?:|url\(|@import|\bsrc=", text)
    links = {attributes["href"] for tag, attributes in checker.elements if tag == "a"}
    ids = {attributes["id"] for tag, attributes in checker.elements if "id" in attributes}
    assert links == {f"#{one}" for one in ids} == {"#ipc", "#mail"}
    assert "prefers-color-scheme: dark" in text


def test_the_page_has_everything_that_was_found(text: str) -> None:
    """Rows with how many and how to measure them again, verdicts, reasons, notes, tables, machine, hash, failures."""
    shown = "".join(Checker(text).text)
    for wanted in (
        *("2 met", "2 missed", "2 not measured", "<script>alert(1)</script>"),
        *("n & n", "see spinrt <x>", "<T>", "Not measured: grpc: not installed.", "Hash of what was computed: abc123."),
        *("2 runs, 4 samples", "2 samples of 500", "spinrt bench ipc", "(50%)", "<b>=&"),
        *("core did not end well: exit code 1", "wasmtime", "kernel", "spinrt bench all"),
    ):
        assert wanted in shown, wanted


def test_missed_targets_come_first(text: str) -> None:
    assert re.findall(r'<span class="(met|missed|not-measured)">', text) == [
        *["missed"] * 2,
        *["not-measured"] * 2,
        *["met"] * 2,
    ]


def test_values_that_have_no_logarithm_are_left_out_of_pictures() -> None:
    assert all("lossy" not in mark.label for one in pictures.plots(found("mail")) for mark in one.marks)


def test_calls_are_drawn_fastest_first_with_their_tails() -> None:
    first = pictures.plots(found())[0]
    assert [mark.label for mark in first.marks] == ["spinrt_raise", "pipe cores=same"]
    assert [mark.series for mark in first.marks] == [0, 3]
    assert first.marks[1].reach == (2000.0, 9000.0)
    assert first.marks[1].p99 == 9000.0


def test_rows_of_filters_are_drawn_by_name_and_told_apart_by_what_differs() -> None:
    """Parameters that all have are left out."""
    rows = [
        Row.of("filter_latency", [value], "us/message", {"server": server, "filters": count, "sessions": 1})
        for server, count, value in (("spinrt", 1, 100.0), ("spinrt", 3, 1200.0), ("postfix", 1, 2500.0))
    ]
    result = json.loads(json.dumps(as_json("filters", "spinrt bench filters", Result(rows))))
    (drawn,) = pictures.plots(result)
    assert [mark.label for mark in drawn.marks] == ["spinrt 1", "spinrt 3", "postfix 1"]
    assert [drawn.show(mark.median) for mark in drawn.marks] == ["100 µs", "1.2 ms", "2.5 ms"]


def test_targets_are_drawn_by_the_factor_that_they_are_met_by() -> None:
    drawn = pictures.margins([found()])
    assert [(mark.median, mark.series) for mark in drawn.marks] == [(1.25, pictures.MET), (0.5, pictures.MISSED)]


def test_a_target_that_has_no_factor_is_named_below_the_picture() -> None:
    result = found() | {"targets": [Target("below_zero", -3.0, ">=", 20).as_json()]}
    assert "below_zero (-3)" in pictures.margins([result]).key


@given(st.integers(1, 60))
def test_labels_are_cut_only_where_no_page_has_room_for_them(length: int) -> None:
    marks = [Mark("l" * length, 0, 1.0, (1.0, 1.0), (1.0, 1.0))]
    assert "l" * length in "".join(Checker(Plot("t", "a", marks, show=str).svg()).text)
    marks.append(Mark("x" * 200, 0, 1.0, (1.0, 1.0), (1.0, 1.0)))
    shown = "".join(Checker(Plot("t", "a", marks, show=str).svg()).text)
    assert "l" * length in shown
    assert "x…" in shown


@given(st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=8))
def test_every_mark_lies_within_the_picture_and_larger_ones_further_right(values: list[float]) -> None:
    marks = [Mark("m", 0, value, (value, value), (value / 2, value * 2), value) for value in sorted(values)]
    drawn = Checker(Plot("t", "a", marks, show=str).svg())
    left = plot.LABEL_WIDTH_MIN  # the labels are short
    centres = [float(found["cx"] or "nan") for tag, found in drawn.elements if tag == "circle"]
    assert centres == sorted(centres)
    for tag, attributes in drawn.elements:
        for name in ("x1", "x2", "cx"):
            if tag in {"line", "circle"} and name in attributes:
                at = float(attributes[name] or "nan")
                assert left - 0.1 <= at <= left + plot.PLOT_WIDTH + 0.1


@pytest.mark.parametrize(
    ("ns", "shown"), [(0.28, "0.28 ns"), (20.4, "20.4 ns"), (1855, "1.855 µs"), (2.5e6, "2.5 ms"), (4e9, "4 s")]
)
def test_durations_are_in_the_unit_that_suits_them(ns: float, shown: str) -> None:
    assert units.duration(ns) == shown


# ------------------------------------------------------------------------------------------------------- all of them

SCRIPT = """
import json, sys
if {fails}: sys.exit(3)
open(sys.argv[sys.argv.index("--save") + 1], "w").write({json!r})
print("arguments", sys.argv[1:])
"""
WAITS = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("up", flush=True)
signal.pause()
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two benchmarks, one of which fails, and two that do not count."""
    directory = tmp_path / "benchmarks"
    directory.mkdir()
    (directory / "__init__.py").touch()
    good = json.dumps(found())
    for name, fails in (("ipc", False), ("bad", True), ("all", True), ("filters", True)):
        (directory / f"bench_{name}.py").write_text(SCRIPT.format(fails=fails, json=good), encoding="utf-8")
    monkeypatch.setattr(bench_all, "ROOT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_are_run_and_one_that_fails_keeps_none_from_running(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert bench_all.names() == ["bad", "ipc"]
    assert bench_all.main(["--quick", "--mail", "here", "--report", "out/page.html"]) == 1
    text = (checkout / "out" / "page.html").read_text(encoding="utf-8")
    assert "bad did not end well: exit code 3" in text
    assert "spinrt bench all --quick --mail here" in text
    assert json.loads((checkout / "out" / "ipc.json").read_text())["benchmark"] == "ipc"
    assert "'--quick', '--mail', 'here'" in capfd.readouterr().out


def test_json_of_all_is_one_list(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkout / "benchmarks" / "bench_bad.py").unlink()
    assert bench_all.main(["--json"]) == 0
    assert [one["benchmark"] for one in json.loads(capfd.readouterr().out)] == ["ipc"]
    assert (checkout / "build" / "bench" / "report.html").is_file()


def test_an_old_result_does_not_pass_for_a_new_one(checkout: Path) -> None:
    (checkout / "out").mkdir()
    (checkout / "out" / "bad.json").write_text(json.dumps(found("bad")))
    assert bench_all.main(["--report", "out/page.html"]) == 1
    assert not (checkout / "out" / "bad.json").exists()


def test_an_interruption_reaches_what_runs_and_is_told_in_one_line(checkout: Path) -> None:
    (checkout / "benchmarks" / "bench_bad.py").write_text(WAITS, encoding="utf-8")
    program = (
        f"import sys; sys.path.insert(0, {str(bench_all.__file__).rsplit('/', 2)[0]!r}); from pathlib import Path; "
        f"from benchmarks import bench_all; bench_all.ROOT = Path({str(checkout)!r}); sys.exit(bench_all.main([]))"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == 128 + signal.SIGTERM
    assert err == "bench: all: interrupted by SIGTERM; everything it started is stopped\n"
    assert out == ""
