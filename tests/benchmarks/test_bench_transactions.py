"""The benchmark of transactions runs from end to end, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_transactions import FULL, QUICK, Scale, measure
from benchmarks.harness import Result, as_json
from benchmarks.timing import key_of
from benchmarks.transactions import bystanders, instrumenting, kernels, mail, nulls, twins
from benchmarks.transactions.guests import DIRECTORY, KERNEL_NAMES, LAYOUTS, LOG, PLAIN, Built, build, pairs
from spinrt.errors import InternalError

TARGETS = {
    "null_over_plain": ("<=", 1.2),
    "kernels_median_over_plain": ("<=", 1.25),
    "kernels_worst_over_plain": ("<=", 2.0),
    "mail_share": ("<=", 0.01),
    "fault_over_engine": ("<=", 150),
    "bystander_p99_over_quiet": ("<=", 1.5),
    "instrument_mb_per_s": (">=", 5),
}
TINY = Scale(
    layouts=2,
    null_layouts=2,
    run_ns=10_000,
    rounds=2,
    bystanders=bystanders.Scale(seconds=0.01, rounds=2),
    mail=mail.Scale(messages=20, run_ns=10_000, rounds=2, message_rounds=1),
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


@pytest.fixture(scope="module")
def result() -> Result:
    """One run, with a small module in the place of the large one, which takes long to compile."""
    small = (Path(instrumenting.spinrt.__file__).parent / "extensions" / "audit" / "audit.wasm").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instrumenting, "large_module", lambda: small)
        return measure(TINY)


@pytest.fixture(scope="module")
def built() -> list[Built]:
    return build(2)


def test_every_row_is_measured_and_told_apart_by_name_and_parameters(result: Result) -> None:
    """No two rows have the same key, and nothing takes no time."""
    keys = [key_of(row.name, row.params) for row in result.rows]
    assert len(set(keys)) == len(keys)
    differences = ("mail_transaction", "fault_for_each_byte")
    assert [row for row in result.rows if row.low <= 0 and row.name not in differences] == []


def test_six_kernels_are_compared_and_the_worst_is_named(result: Result) -> None:
    """Each by name, with a log and without, with the hash of its output and the bytes that it leaves in the log."""
    rows = [row for row in result.rows if row.name == "kernel"]
    assert {(row.params["function"], row.params["log"]) for row in rows} == {
        (name, log) for name in KERNEL_NAMES for log in (LOG, PLAIN)
    }
    assert all(row.params["output"] == twins.hash_of(twins.TWINS[row.params["function"]]()) for row in rows)
    assert {row.params["function"] for row in result.rows if row.name == "kernel_log_bytes"} == set(KERNEL_NAMES)
    ratios = {row.params["function"]: row.median for row in result.rows if row.name == "kernel_over_plain"}
    assert f"The worst kernel is {max(ratios, key=ratios.__getitem__)}" in result.notes[0]


def test_alternatives_stand_beside_it(result: Result) -> None:
    """A copy of 64 KiB, 192 KiB and 1 MiB for each call, and a fresh instance."""
    copies = [row.params["bytes"] for row in result.rows if row.name == "copy_of_memory"]
    assert copies == [65_536, 196_608, 1_048_576]
    assert {row.params["module"] for row in result.rows if row.name == "fresh_instance"} == {"null", "kernels"}


def test_targets_are_those_that_the_issue_states(result: Result) -> None:
    """Names, relations and limits; each has a value."""
    assert {target.name: (target.relation, target.limit) for target in result.targets} == TARGETS
    assert all(target.value is not None for target in result.targets)


def test_other_scales_measure_what_targets_name() -> None:
    """Several layouts of everything, and ten thousand faults a second."""
    assert FULL.layouts == QUICK.layouts == LAYOUTS == 5
    assert FULL.null_layouts == QUICK.null_layouts == nulls.LAYOUTS == 15
    assert bystanders.FAULTS_PER_SECOND == 10_000


def test_json_keys_are_documented(result: Result) -> None:
    """Programs rely on them: every name of a row, of a parameter and of a target stands in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text[text.index("\n## transactions\n") :]
    shown = as_json("transactions", "spinrt bench transactions", result)
    names = {row["name"] for row in shown["rows"]} | {target["name"] for target in shown["targets"]}
    names |= {parameter for row in shown["rows"] for parameter in row["params"]}
    assert [name for name in sorted(names) if f"`{name}`" not in section] == []


def test_a_kernel_that_produces_something_else_is_refused(built: list[Built], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is what the row says."""
    guests = pairs(built)
    assert set(kernels.checked_hashes(guests.values())) == set(KERNEL_NAMES)
    monkeypatch.setitem(twins.TWINS, "sha256", lambda: bytes(32))
    with pytest.raises(InternalError, match="kernel sha256"):
        kernels.checked_hashes(guests.values())


def test_layouts_differ_and_builds_agree(built: list[Built]) -> None:
    """Each layout is another module; the same one built again is the same, byte for byte."""
    codes = [one.code for one in built]
    assert len(set(codes)) == 2
    assert [one.code for one in build(2)] == codes


def test_inputs_are_of_the_size_that_rows_speak_of() -> None:
    """4,096 bytes each, as the C sources expect."""
    inputs = [path for path in (DIRECTORY / "src").iterdir() if path.suffix in {".txt", ".eml"}]
    assert [path.stat().st_size for path in inputs] == [4096] * 4


def test_kernels_leave_in_the_log_what_they_write(built: list[Built]) -> None:
    """A record of 16 bytes for each octet that a decoder writes; of SHA-256 the state, but not what is on the stack."""
    found = kernels.log_bytes(built[0].code)
    assert found["quoted-printable-decode"] >= 16 * len(twins.quoted_printable_decode())
    assert found["base64-decode"] >= 16 * len(twins.base64_decode())
    blocks = 4096 // 64 + 1
    assert 16 * 8 * blocks <= found["sha256"] < 16 * 16 * blocks


def test_the_large_module_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run made is taken; nothing half-written is."""
    made = []

    def compile_(out: Path) -> None:
        made.append(out)
        out.write_bytes(b"module")

    monkeypatch.setattr(instrumenting, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(instrumenting, "_compile", compile_)
    assert [instrumenting.large_module(), instrumenting.large_module()] == [b"module", b"module"]
    assert len(made) == 1
    assert not made[0].exists()
