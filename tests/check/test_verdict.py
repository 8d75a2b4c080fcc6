"""Verdicts, and how they are told: to people, to programs, to build servers."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from spinrt.check.junit import write_junit
from spinrt.check.report import examine
from spinrt.check.subject import read_subject
from spinrt.check.verdict import FINDINGS_MAX, Finding, Tally, Verdict
from spinrt.cli import check as command
from spinrt.cli.main import main
from spinrt.mail.extensions import SHIPPED
from tests.check.guests import COUNTER
from tests.check.support import write_extension
from tests.guests import EVENTS

AUDIT = str(SHIPPED / "audit")
QUICK = ("--bound", "20", "--inputs", "2")


def verdict(*tallies: Tally, **changes: object) -> Verdict:
    return Verdict("x", "1.0.0", 7, 100, list(tallies), inputs={"a": 1}, **changes)  # type: ignore[arg-type]


def test_findings_are_counted_and_the_first_are_kept() -> None:
    found = Tally("a", "instruction", points=100, injected=100)
    for number in range(100):
        found.note(Finding("0", f"before change {number}", "memory"))
    assert found.found == 100
    assert [finding.point for finding in found.findings] == [
        f"before change {number}" for number in range(FINDINGS_MAX)
    ]
    assert not verdict(found).is_safe


def test_safe_means_that_each_handler_was_tried() -> None:
    """One handler without a fault spoils it, whatever was injected into others."""
    tried = Tally("a", "instruction", points=1, injected=1)
    assert verdict(tried).is_safe
    both = verdict(tried)
    both.inputs["b"] = 3
    assert both.untried == ("b",)
    assert not both.is_safe
    assert not verdict().is_safe


def test_json_keys_are_those_that_are_documented() -> None:
    """docs/checking.md names every key."""
    found = Tally("a", "instruction", points=2, injected=2)
    found.note(Finding("0 (ordinary)", "before change 1", "memory"))
    told = json.loads(json.dumps(verdict(found).as_json()))
    assert set(told) == {
        "safe", "injected", "found", "untried", "name", "version", "seed", "bound", "tallies", "failed_plain",
        "inputs", "called", "why_failed", "notes", "interrupted",
    }  # fmt: skip
    assert set(told["tallies"][0]) == {
        "handler", "fault", "points", "injected", "found", "findings", "exhaustive", "seconds",
    }  # fmt: skip
    assert told["tallies"][0]["findings"] == [{"input": "0 (ordinary)", "point": "before change 1", "what": "memory"}]
    text = (Path(__file__).parents[2] / "docs/checking.md").read_text(encoding="utf-8")
    assert not [
        key for key in {*told, *told["tallies"][0], *told["tallies"][0]["findings"][0]} if f"`{key}`" not in text
    ]


def test_junit_has_a_case_for_each_handler_and_class(tmp_path: Path) -> None:
    """Failures hold their findings; what XML cannot hold is replaced."""
    bad, good = (
        Tally("a", "instruction", points=9, injected=9, seconds=1.5),
        Tally("a", "host-call", points=1, injected=1),
    )
    for number in range(8):
        bad.note(Finding(f"{number} (\0\x1b[31m)", "before change 1", "memory: found <b> & ]]>"))
    told = verdict(bad, good)
    told.inputs["untried"] = 1
    report = examine(read_subject(SHIPPED / "audit")).report
    write_junit(tmp_path / "check.xml", report, told)

    suite = ElementTree.parse(tmp_path / "check.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("4", "2", "1.500")
    cases = {(case.get("classname"), case.get("name")): case for case in suite.iter("testcase")}
    assert cases["static", "loads"].find("failure") is None
    failure = cases["a", "instruction"].find("failure")
    assert failure is not None
    assert "found <b> & ]]>" in (failure.text or "")
    assert "and 3 more" in (failure.text or "")
    assert cases["a", "host-call"].findtext("system-out") == "1 faults at 1 points"
    assert cases["untried", "tried"].find("failure") is not None


def test_the_command_says_safe_and_how_to_repeat_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, a table, the count, seed and bound."""
    assert main(["check", AUDIT, *QUICK, "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "seed 3, bound 20" in out.splitlines()[-1]
    assert out.splitlines()[-1].startswith("safe as far as tried: ")
    assert "instruction" in out


def test_the_command_gives_json_and_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same seed gives the same counts."""
    told = []
    for _ in range(2):
        arguments = ["check", AUDIT, *QUICK, "--json", "--junit", str(tmp_path / "check.xml")]
        assert main([*arguments, "--fault", "instruction"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    for one in told:
        for tally in one["campaign"]["tallies"]:
            assert tally.pop("seconds") >= 0
    assert told[0] == told[1]
    assert told[0]["campaign"]["safe"]
    assert told[0]["static"]["name"] == "audit"
    assert ElementTree.parse(tmp_path / "check.xml").getroot().tag == "testsuites"


def test_findings_are_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With input, point and what differs."""
    directory = write_extension(tmp_path / "counter", COUNTER, "add", limits={"undo_bytes": 0})
    assert main(["check", str(directory), *QUICK, "--wit", str(tmp_path / "counter" / "test.wit")]) == 1
    out = capsys.readouterr().out
    assert "add host-call: input 0 (ordinary), host call 1 as QuotaExceeded: instance: found a fresh one" in out
    assert out.splitlines()[-1].startswith("NOT SAFE: ")


def test_nothing_to_try_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An extension without handlers is not called safe."""
    directory = write_extension(tmp_path / "idle", "", limits={})
    assert main(["check", str(directory), *QUICK]) == 1
    assert "NOT TRIED" in capsys.readouterr().out
    directory = write_extension(tmp_path / "counter", COUNTER, "add")
    assert main(["check", str(directory), *QUICK, "--wit", str(directory / "test.wit"), "--fault", "effects"]) == 1
    assert "add: no fault was injected" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--bound", "0"], ["--inputs", "x"], ["--fault", "everything"], ["--policy", "nowhere.yaml"]]
)
def test_wrong_options_are_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    try:
        code = main(["check", AUDIT, *arguments])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_interrupted_check_prints_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 130, and the counts until then."""
    usual = command.run_campaign

    def interrupted(subject: object, options: object, progress: object) -> Verdict:
        told: list[int] = []

        def interrupt(what: str, injected: int) -> None:
            told.append(injected)
            if len(told) == 2:
                raise KeyboardInterrupt

        return usual(subject, options, interrupt)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "run_campaign", interrupted)
    assert main(["check", AUDIT, *QUICK]) == 130
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("interrupted: nothing found so far, ")
    assert captured.err == "spinrt: interrupted\n"


def test_the_event_in_tables_has_no_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", AUDIT, *QUICK, "--fault", "instruction"])
    assert EVENTS not in capsys.readouterr().out
