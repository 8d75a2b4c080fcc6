"""The benchmark of calls runs from end to end, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import bench_ipc
from benchmarks.bench_ipc import measure
from benchmarks.harness import Options, Result, Target, as_json, as_text
from benchmarks.ipc import inprocess, instructions, kernel, native, published, pythonic, work
from benchmarks.ipc.cores import SAME, TWO, Cores
from benchmarks.ipc.instructions import Counts
from benchmarks.ipc.report import Report
from benchmarks.ipc.subject import Scale, Subject, Taken
from benchmarks.selection import Selection
from benchmarks.timing import key_of
from spinrt.errors import BuildError, InternalError

TINY = Scale(2, 3, 2000, 3, 20, 2, 3, 1, 100_000, False)
TARGETS = {
    "kernel_ipc_same_core_over_raise": (">=", 80),
    "kernel_ipc_cross_core_over_raise": (">=", 500),
    "shm_spin_over_raise": (">=", 4),
    "getpid_over_raise": (">=", 1),
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
needs_two_cores = pytest.mark.skipif(Cores.choose().other is None, reason="this process may use one core only")


@pytest.fixture(scope="module")
def result() -> Result:
    return measure(TINY, Options())


@needs_two_cores
def test_every_alternative_is_there_with_every_size(result: Result) -> None:
    """Or is named as skipped, with the reason; no two rows have the same key."""
    keys = [key_of(row.name, row.params) for row in result.rows]
    assert len(set(keys)) == len(keys)
    names = {row.name for row in result.rows}
    everything = {*kernel.FORMS, *pythonic.FORMS, *inprocess.PEERS, "native_call", "spinrt_raise", "getpid"}
    everything |= {"spinrt_from_cython", "spinrt_from_python", "spinrt_export"}
    assert everything <= names | result.skipped.keys()
    for name in everything - {"spinrt_raise", "getpid"} - result.skipped.keys():
        assert {row.params["bytes"] for row in result.rows if row.name == name} == set(work.SIZES), name
    assert all(reason for reason in result.skipped.values())


@needs_two_cores
def test_forms_of_the_kernel_run_on_one_core_and_on_two(result: Result) -> None:
    """But spinning, which needs two, and giving up the core, which needs one."""
    for name in {*kernel.FORMS, *pythonic.FORMS} - result.skipped.keys():
        places = {row.params["cores"] for row in result.rows if row.name == name}
        assert places == {"shared_memory_spin": {TWO}, "shared_memory_yield": {SAME}}.get(name, {SAME, TWO}), name
    several = {row.name for row in result.rows if row.params.get("outstanding") == 16}
    assert {"pipe_rate", "tcp_rate", "futex_rate", "grpc_rate"} <= several | {f"{one}_rate" for one in result.skipped}
    assert "http_rate" not in several


def test_targets_are_those_that_the_issue_states(result: Result) -> None:
    assert {target.name: (target.relation, target.limit) for target in result.targets} == TARGETS
    assert all(target.value is not None or target.reason for target in result.targets)


def test_rows_say_how_many_and_how_surely_and_how_to_measure_them_again(result: Result) -> None:
    """Each that is not derived by a command of its own, which takes that row and no other of its name."""
    for row in result.rows:
        shown = row.as_json("spinrt bench ipc")
        assert shown["samples"] >= shown["runs"] >= 1
        assert shown["min"] <= shown["interval"][0] <= shown["median"] <= shown["interval"][1] <= shown["max"]
        assert shown["command"].startswith("spinrt bench ipc")
    assert {row.name for row in result.rows if not row.command} == set()
    pipe = next(row for row in result.rows if row.name == "pipe" and row.params == {"bytes": 64, "cores": SAME})
    assert pipe.command == "spinrt bench ipc --only 'pipe bytes=64 cores=same'"


def test_json_keys_are_documented(result: Result) -> None:
    """Programs rely on them: every name of a row, of a parameter and of a target stands in the document."""
    section = re.split(r"\n(?=## )", DOCUMENT.read_text(encoding="utf-8").partition("\n## ipc\n")[2])[0]
    shown = as_json("ipc", "spinrt bench ipc", result)
    names = {row["name"].removesuffix("_rate") for row in shown["rows"]} | {one["name"] for one in shown["targets"]}
    names |= {parameter for row in shown["rows"] for parameter in row["params"]}
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []
    assert re.fullmatch("[0-9a-f]{16}", shown["digest"])


def test_text_shows_the_table_of_spin(result: Result) -> None:
    text = as_text("ipc", "spinrt bench ipc", result)
    assert "SPIN's Table 2, then and today" in text
    assert "DEC OSF/1: sockets and SUN RPC" in text
    assert f"Hash of what was computed: {work.digest()}" in text


def test_only_what_is_wanted_is_measured() -> None:
    """One row, and what it needs; targets that cannot be computed then say why."""
    found = measure(TINY, Options(only=Selection.parse(["pipe_rate bytes=64 cores=same", "native_call bytes=0"])))
    assert {(row.name, row.params.get("bytes")) for row in found.rows} == {("pipe_rate", 64), ("native_call", 0)}
    assert {target.reason for target in found.targets} == {"--only left out what it compares"}
    assert measure(TINY, Options(only=Selection.parse(["nope"]))).rows == []


def test_a_ratio_is_measured_alone_with_what_it_needs() -> None:
    """By the name and the parameters that its row shows."""
    found = measure(TINY, Options(only=Selection.parse(["over_raise form=getpid"])))
    assert [(row.name, row.params["form"]) for row in found.rows] == [("over_raise", "getpid")]
    found = measure(TINY, Options(only=Selection.parse([f"a_over_a form=pipe cores={SAME}"])))
    assert [(row.name, row.params["form"]) for row in found.rows] == [("a_over_a", "pipe")]


def test_a_process_with_one_core_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ipc.Cores, "choose", lambda: Cores(Cores(0, None).caller, None))
    found = measure(TINY, Options(only=Selection.parse(["pipe bytes=0"])))
    assert {row.params["cores"] for row in found.rows} == {SAME}
    assert found.skipped["cores=two"] == "this process may use one core only"


def test_peers_that_are_missing_are_skipped_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inprocess, "find_spec", lambda package: None)
    monkeypatch.setattr(pythonic, "find_spec", lambda package: None)
    found = measure(TINY, Options(only=Selection.parse(["getpid"])))
    assert {"extism", "pluggy", "grpc"} <= found.skipped.keys()
    assert "`make setup` installs it" in found.skipped["grpc"]


def test_without_a_compiler_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    with pytest.raises(BuildError, match="found no C compiler"):
        native.compiler()


def test_a_cache_that_others_may_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in it is run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "spinrt" / "bench").mkdir(parents=True)
    (tmp_path / "spinrt" / "bench").chmod(0o777)
    with pytest.raises(BuildError, match="this user's alone"):
        native._made("driver", native.DRIVER, ())


# ------------------------------------------------------------------------------------------------------------- the work


@given(st.lists(st.binary(min_size=8, max_size=8), max_size=40))
@settings(max_examples=50)
def test_the_checksum_is_that_of_its_twin(words: list[bytes]) -> None:
    data = b"".join(words)
    assert native.work().checksum(data) == work.checksum(data)


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=2, max_size=20, unique=True), st.data())
@settings(max_examples=50)
def test_the_checksum_follows_the_order_of_words(words: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(words) - 2))
    swapped = [*words[:at], words[at + 1], words[at], *words[at + 2 :]]
    assert work.checksum(b"".join(words)) != work.checksum(b"".join(swapped))


def test_an_alternative_that_answers_something_else_is_refused() -> None:
    with pytest.raises(InternalError, match="answered 1 to 64 bytes"):
        work.check("pipe", 64, 1)


def test_the_driver_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InternalError, match="driver ended with status 1: driver: telepathy"):
        kernel._words("telepathy", [str(native.driver()), "telepathy", "0", "0", "0", "1", "1", "1", "1"], b"", 4)


# ----------------------------------------------------------------------------------------------------------- the report


def reported(times: dict[str, list[float]]) -> Report:
    """A report of subjects without payload that took these times, one for each round; all others took 1,000 ns."""
    keys = {
        "spinrt_raise": {},
        "getpid": {},
        "shared_memory_spin": {"bytes": 0, "cores": TWO},
        **{name: {"bytes": 0, "cores": SAME} for name in kernel.MEDIATED},
    }
    subjects = [Subject(name, params, lambda: Taken([])) for name, params in keys.items()]
    subjects += [Subject(name, {"bytes": 0, "cores": TWO}, lambda: Taken([])) for name in kernel.MEDIATED]
    found = {one.key: [Taken([ns]) for ns in times.get(one.key, [1000.0, 1000.0])] for one in subjects}
    return Report(Options(), subjects, found, {}, Counts())


def test_the_best_of_the_kernel_counts_and_ratios_are_of_the_same_round() -> None:
    """A machine that is twice as slow in the second round changes nothing."""
    found = reported(
        {
            "spinrt_raise": [20.0, 40.0],
            "getpid": [60.0, 120.0],
            key_of("futex", {"bytes": 0, "cores": SAME}): [800.0, 1600.0],
            key_of("pipe", {"bytes": 0, "cores": SAME}): [1900.0, 1900.0],
            key_of("tcp", {"bytes": 0, "cores": SAME}): [9000.0, 9000.0],
            **{key_of(name, {"bytes": 0, "cores": SAME}): [5000.0, 5000.0] for name in ("eventfd", "unix_stream")},
            key_of("unix_datagram", {"bytes": 0, "cores": SAME}): [5000.0, 5000.0],
        }
    ).result()
    values = {target.name: target.value for target in found.targets}
    assert values["kernel_ipc_same_core_over_raise"] == 40
    assert values["getpid_over_raise"] == 3
    assert values["shm_spin_over_raise"] == pytest.approx((50 + 25) / 2)


def test_spins_figures_are_shown_as_they_were_published() -> None:
    """In cycles of 133 MHz, and over SPIN's own protected call."""
    measured = published.Measured(2.0, 20.0, 0.5, {(published.SYSTEM_CALL, "Linux, getpid"): 80.0})
    rows = {tuple(row[:2]): row[2:] for row in published.table(measured).rows}
    assert rows["system call", "Mach 3.0"] == ["7 µs", "931", "53.85", ""]
    assert rows["system call", "today: Linux, getpid"] == ["80 ns", "160", "4", "40"]


# --------------------------------------------------------------------------------------------------- instruction counts


def test_what_perf_says_is_understood() -> None:
    assert instructions.parse_perf("4242,,instructions:u,1000,100.00,,\n") == 4242
    assert instructions.parse_perf("<not supported>,,instructions:u,0,100.00,,\n") is None


def test_what_callgrind_dumps_is_understood() -> None:
    assert instructions.parse_callgrind("events: Ir\nsummary: 17\n\ntotals: 17\n") == 17
    with pytest.raises(InternalError, match="without a summary"):
        instructions.parse_callgrind("events: Ir\n")


@pytest.mark.parametrize(
    ("programs", "slowly", "reason"), [((), True, "not installed"), (("valgrind",), False, "--quick")]
)
def test_why_instructions_are_not_counted(
    programs: tuple[str, ...], slowly: bool, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions.shutil, "which", lambda name: name if name in programs else None)
    assert reason in instructions.measure(["getpid"], slowly=slowly).reason


def test_counts_become_rows() -> None:
    counts = Counts("callgrind", {"spinrt_from_cython transactional=yes": 400.0})
    rows = Report(Options(), [], {}, {}, counts).result().rows
    assert [(row.name, row.median, row.unit) for row in rows] == [("instructions", 400.0, "instructions")]
    assert rows[0].params == {"form": "spinrt_from_cython", "transactional": "yes", "counter": "callgrind"}


def test_mail_filters_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are asked with the same options, and what they find is appended."""
    asked: list[Options] = []

    def found(options: Options) -> Result:
        asked.append(options)
        return Result(targets=[Target("milter_over_three_extensions", None, ">=", 20, "no Postfix")])

    monkeypatch.setattr(bench_ipc.filters, "measure", found)
    monkeypatch.setattr(bench_ipc, "QUICK", TINY)
    options = Options(quick=True, only=Selection.parse(["getpid"]))
    result = bench_ipc.benchmark(options)
    assert asked == [options]
    assert [target.name for target in result.targets] == [*TARGETS, "milter_over_three_extensions"]
