"""A verdict as JUnit XML, which build servers read: one test case for each handler and class of faults.

Source: the schema that Jenkins and GitLab agree on (testsuites, testsuite, testcase, failure).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from spinrt.check.report import StaticReport
from spinrt.check.verdict import Tally, Verdict

# What XML 1.0 cannot hold, escaped or not.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, report: StaticReport, verdict: Verdict | None) -> None:
    """Write a report and a verdict, if there is one.

    Raises:
        OSError: The file cannot be written.
    """
    suite = ElementTree.Element("testsuite", name=f"spinrt check {report.name} {report.version}")
    _add_case(suite, "static", "loads", "\n".join([*report.problems, *report.refused, *report.missing]))
    for tally in verdict.tallies if verdict else ():
        _add_tally(suite, tally)
    for handler in verdict.untried if verdict else ():
        _add_case(suite, handler, "tried", verdict.why_untried(handler) if verdict else "")
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("time", f"{sum(tally.seconds for tally in verdict.tallies) if verdict else 0:.3f}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_tally(suite: ElementTree.Element, tally: Tally) -> None:
    lines = [f"input {one.input}, {one.point}: {one.what}" for one in tally.findings]
    if tally.found > len(lines):
        lines.append(f"and {tally.found - len(lines)} more")
    case = _add_case(suite, tally.handler, tally.fault, "\n".join(lines), tally.seconds)
    told = ElementTree.SubElement(case, "system-out")
    told.text = f"{tally.injected} faults at {tally.points} points"


def _add_case(
    suite: ElementTree.Element, handler: str, name: str, failure: str, seconds: float = 0.0
) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", classname=_text(handler), name=_text(name), time=f"{seconds:.3f}")
    if failure:
        text = _text(failure)
        ElementTree.SubElement(case, "failure", message=text.splitlines()[0]).text = text
    return case


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
