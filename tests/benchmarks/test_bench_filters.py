"""The benchmark of filters: from end to end, its figures, what is missing, and what is left when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.filters import aiosmtpd_fronts, fronts, measure, postfix_fronts, spinrt_fronts
from benchmarks.filters import benchmark as filters
from benchmarks.filters.benchmark import KEYS, ONE_MILTER, THREE, Found, Measured, Scale, needed
from benchmarks.filters.fronts import NO_FILTER, Front, Fronts, Key, Traffic, having
from benchmarks.filters.library import Tally
from benchmarks.filters.messages import Messages
from benchmarks.filters.report import report
from benchmarks.harness import Options, Result, as_json
from benchmarks.peers import postfix, process
from benchmarks.peers.process import PeerFailed, PeerMissing, ServerProcess
from benchmarks.selection import Selection
from spinrt.storage.commit import SHARED_S

TINY = Scale(4, 8, rounds=1, delivery_run_ns=100_000, delivery_rounds=2)
KEYS_QUICK = tuple(key for key in KEYS if key.form != postfix_fronts.RSPAMD)
POSTFIX_FREE = (*spinrt_fronts.KEYS, *aiosmtpd_fronts.KEYS)
MESSAGES = Messages((b"Subject: a\r\nTo: b\r\n\r\nc\r\n",), 2, (False,))


def found(keys: tuple[Key, ...] = KEYS) -> Found:
    """Numbers that a reader can check by hand: a filter adds 1 ms and 2 ms of processor, in spinrt 10 µs a delivery."""
    fronts = {key: [of_filters(key.filters)] * 2 for key in keys}
    deliveries = {count: [(20 + 10 * count) * 1e3] * 3 for count in (0, 1, 3)}
    return Found(MESSAGES, 100, fronts, deliveries, versions={"Postfix": "3.7"})


def of_filters(filters: int) -> Measured:
    return Measured([0.001 + 0.001 * filters] * 3, 100.0 / (1 + filters), 0.005 + 0.002 * filters)


def rows_of(result: Result) -> dict[str, float]:
    return {" ".join([row.name, *map(str, row.params.values())]): row.median for row in result.rows}


def test_whole_benchmark_without_root_and_without_postfix(monkeypatch: pytest.MonkeyPatch) -> None:
    """spinrt and aiosmtpd are measured, every message arrives, and the target says why it has no value."""
    monkeypatch.setattr(postfix.os, "geteuid", lambda: 1000)
    result = report(filters.measure(TINY), Options())
    rows = rows_of(result)
    assert {key for key in KEYS if f"filter_rate {key.server} {key.form} {key.filters} 20" in rows} == set(POSTFIX_FREE)
    assert all(value > 0 for name, value in rows.items() if "added" not in name and "over" not in name)
    (target,) = result.targets
    assert target.value is None
    assert target.reason in set(result.skipped.values())
    assert "postfix" in result.skipped


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix must be started by root")
def test_whole_benchmark_with_postfix() -> None:
    """All forms but rspamd, which takes too long to start: nothing is lost, and every filter sees every message."""
    measured = filters.measure(TINY, KEYS_QUICK)
    if "postfix" in measured.skipped:
        pytest.skip(measured.skipped["postfix"])
    missing = {key for key in KEYS_QUICK if f"{key.server}/{key.form}" in measured.skipped}
    assert set(measured.fronts) == set(KEYS_QUICK) - missing
    assert measured.sent == 2 * (4 + 8) * len(measured.fronts)


def test_figures_follow_from_the_rounds() -> None:
    """What is added is the difference to the same server without a filter; ratios are to three extensions."""
    rows = rows_of(report(found(), Options()))
    assert rows["filter_latency postfix milter 3 1"] == pytest.approx(4000)
    assert rows["filter_rate postfix milter 3 20"] == pytest.approx(25)
    assert rows["filter_cpu postfix milter 3 20"] == pytest.approx(11_000)
    assert rows["filter_added postfix milter 3 1"] == pytest.approx(3000)
    assert rows["filter_added_cpu aiosmtpd http-hook 1 20"] == pytest.approx(2000)
    assert rows["filter_delivery spinrt none 0"] == pytest.approx(20)
    assert rows["filter_added_delivery spinrt extension 3"] == pytest.approx(30)
    assert rows["filter_over_three_extensions postfix noop-milter 1"] == pytest.approx(1000 / 30)
    assert rows["filter_cpu_over_three_extensions postfix pymilter 1"] == pytest.approx(2000 / 6000)


def test_a_difference_that_may_be_nothing_gives_no_ratio() -> None:
    """It stays a row; why it has no ratio is said, also where it is what others are compared with."""
    some = found()
    some.fronts[ONE_MILTER] = [of_filters(1), Measured([0.0001] * 3, 1.0, 0.001)]
    result = report(some, Options())
    assert "filter_added postfix noop-milter 1 1" in rows_of(result)
    assert "filter_over_three_extensions postfix noop-milter 1" not in rows_of(result)
    assert result.skipped["filter_over_three_extensions postfix/noop-milter/1"] == (
        "what postfix/noop-milter/1 adds cannot be told from 0: -900 to 1,000 us/message"
    )
    some = found()
    some.fronts[THREE] = some.fronts[THREE.base]
    result = report(some, Options(only=Selection.parse(["filter_cpu_over_three_extensions filter=pymilter"])))
    assert result.rows == []
    assert list(result.skipped) == ["filter_cpu_over_three_extensions postfix/pymilter/1"]


def test_one_session_waits_until_the_server_has_forgotten_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Alone it is measured as among other fronts, whose turn takes longer than that."""
    now_s, slept = [100.0], []
    monkeypatch.setattr(fronts.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(fronts.time, "sleep", slept.append)
    sent = SimpleNamespace(accepted=2, message_seconds=[0.1, 0.1], per_second=1.0)
    monkeypatch.setattr(fronts, "Load", lambda options: SimpleNamespace(run=lambda: sent))
    traffic, front = Traffic(MESSAGES, tmp_path / "messages"), Front(THREE, 0, [])
    traffic.latencies(front, 2)
    traffic.rate(front, 2)
    traffic.latencies(front, 2)
    now_s[0] += 60
    traffic.latencies(front, 2)
    assert slept == pytest.approx([0, SHARED_S, 0])


def test_target_is_the_stated_one() -> None:
    """What one milter adds to a message, over what three extensions add to a delivery."""
    (target,) = report(found(), Options()).targets
    assert (target.name, target.relation, target.limit) == ("milter_over_three_extensions", ">=", 20)
    assert target.value == pytest.approx(1000 / 30)
    assert target.met


def test_json_has_the_documented_keys_and_each_row_its_command() -> None:
    """Names of rows and parameters are those that programs read; a row's command asks for that row."""
    shown = as_json("filters", "command", report(found(), Options(quick=True, mail=Path("my mail"))))
    assert {row["name"] for row in shown["rows"]} == {
        *("filter_latency", "filter_rate", "filter_cpu", "filter_added", "filter_added_cpu"),
        *("filter_delivery", "filter_added_delivery"),
        *("filter_over_three_extensions", "filter_cpu_over_three_extensions"),
    }
    assert {frozenset(row["params"]) - {"sessions"} for row in shown["rows"]} == {
        frozenset({"server", "filter", "filters"})
    }
    commands = [row["command"] for row in shown["rows"]]
    assert len(set(commands)) == len(commands)
    assert (
        "spinrt bench filters --quick --only 'filter_rate server=postfix filter=rspamd filters=1 sessions=20' "
        "--mail 'my mail'" in commands
    )
    assert json.loads(json.dumps(shown))["targets"][0]["met"] is True


@pytest.mark.parametrize(
    ("wanted", "keys", "deliveries"),
    [
        ("filter_rate server=postfix filter=milter filters=3", {Key("postfix", "milter", 3)}, False),
        (
            "filter_added server=postfix filter=milter filters=3 sessions=1",
            {Key("postfix", "milter", 3), Key("postfix", NO_FILTER, 0)},
            False,
        ),
        ("filter_delivery", set(), True),
        ("filter_over_three_extensions filter=noop-milter", {ONE_MILTER, ONE_MILTER.base}, True),
        (
            "filter_cpu_over_three_extensions filter=noop-milter",
            {ONE_MILTER, ONE_MILTER.base, THREE, THREE.base},
            False,
        ),
        ("pipe bytes=0", set(), False),
    ],
)
def test_only_what_a_row_needs_is_measured(wanted: str, keys: set[Key], deliveries: bool) -> None:
    """One row is measured without all others; rows of other benchmarks start nothing."""
    assert needed(Selection.parse([wanted])) == (keys, deliveries)


def test_rows_that_were_not_asked_for_are_not_shown() -> None:
    """Nor the target: it was not measured."""
    only = Selection.parse(["filter_added server=postfix"])
    result = report(found(), Options(only=only))
    assert {row.name for row in result.rows} == {"filter_added"}
    assert result.targets == []


def test_nothing_starts_for_rows_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front door gives an empty result."""
    monkeypatch.setattr(filters, "measure", lambda *_: pytest.fail("measured"))
    assert measure(Options(only=Selection.parse(["pipe"]))) == Result()


def test_quick_leaves_out_rspamd_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else."""
    asked: list[frozenset[Key]] = []

    def fake(scale: Scale, keys: frozenset[Key], skips: dict[Key, str], *_: object, **__: object) -> Found:
        asked.append(keys)
        return replace(found(tuple(keys)), skipped={key.name: why for key, why in skips.items()})

    monkeypatch.setattr(filters, "measure", fake)
    result = measure(Options(quick=True))
    assert set(KEYS) - asked[0] == {Key("postfix", "rspamd", 1)}
    assert "quick" in result.skipped["postfix/rspamd/1"]
    measure(Options())
    assert asked[1] == set(KEYS)


@pytest.mark.parametrize("name", ["postfix", "rspamd", "cc"])
def test_programs_that_are_missing_are_a_reason(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It says which, and how to get it."""
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(PeerMissing, match=f"{name} is not installed; benchmarks/install-peers installs it"):
        process.program(name)


def test_missing_libmilter_and_pymilter_leave_out_those_forms_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each reason stands under the form that it is about; what is not wanted is not tried."""
    monkeypatch.setattr(postfix_fronts.building, "MILTER_HEADER", "no/such/header.h")
    monkeypatch.setattr(postfix_fronts, "PYTHONS", (str(tmp_path / "python"),))
    fronts = Fronts(frozenset(KEYS))
    having(fronts, "postfix/milter", lambda: print(postfix_fronts.building.milter(tmp_path)))
    having(fronts, "postfix/pymilter", lambda: print(postfix_fronts.python_with_pymilter()))
    having(Fronts(frozenset()), "postfix/milter", lambda: pytest.fail("started"))
    assert set(fronts.skipped) == {"postfix/milter", "postfix/pymilter"}
    assert "libmilter is not installed (no no/such/header.h)" in fronts.skipped["postfix/milter"]
    assert fronts.skipped["postfix/pymilter"] == postfix_fronts.NO_PYMILTER


def test_filter_that_did_not_see_a_message_fails_the_run(tmp_path: Path) -> None:
    """Too few, too many suspects, or no tally at all."""
    front = Front(Key("postfix", "milter", 1), 0, [], sent=10, suspects=3)
    tally = tmp_path / "milter-1.tally"
    fronts = Fronts(frozenset(), tallies={tally: ([front], True)})
    with pytest.raises(PeerFailed, match="milter-1: its tally cannot be read"):
        fronts.check_tallies()
    for wrong in (Tally(9, 3), Tally(10, 4)):
        wrong.write(tally)
        with pytest.raises(PeerFailed, match=r"filter milter-1: found Tally\(.*, expected Tally\(messages=10"):
            fronts.check_tallies()
    Tally(10, 3).write(tally)
    fronts.check_tallies()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """An empty directory that servers with accounts of their own may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_nothing_is_left_when_it_fails(monkeypatch: pytest.MonkeyPatch, open_directory: Path) -> None:
    """All servers are stopped, with what they started, and the directory is gone."""
    monkeypatch.setattr("tempfile.tempdir", str(open_directory))
    started: list[ServerProcess] = []
    start = ServerProcess.start
    monkeypatch.setattr(ServerProcess, "start", lambda self: (started.append(self), start(self))[1])
    monkeypatch.setattr(filters, "_measure", lambda *_: (_ for _ in ()).throw(PeerFailed("broken")))
    with pytest.raises(PeerFailed, match="broken"):
        filters.measure(TINY, KEYS_QUICK)
    assert len(started) >= 11
    assert not [one.name for one in started if alive_in_group(one.pid)]
    assert list(open_directory.iterdir()) == []


def alive_in_group(group: int) -> bool:
    """Whether a process of that group lives, as ps tells; one that has ended and waits to be reaped does not."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return any(int(line.split()[0]) == group and "Z" not in line for line in listed.splitlines())


def test_cpu_of_a_tree_holds_children_that_ended_and_those_that_run(tmp_path: Path) -> None:
    """A shell that waited for one busy child and has another."""
    busy = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.2: pass'"
    script = f"{busy}; ({busy}; sleep 60) & echo ready >{tmp_path}/ready; wait"
    with ServerProcess("tree", ["/bin/sh", "-c", script], tmp_path, []) as server:
        while not (tmp_path / "ready").exists() or server.tree_cpu_seconds() < 0.35:
            subprocess.run(["sleep", "0.05"], check=True)
        assert 0.35 <= server.tree_cpu_seconds() < 5
        assert server.cpu_seconds() < 0.2
    assert not alive_in_group(server.pid)
