"""docs/formats/smtp.md states the bounds that are in force when the configuration says nothing."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from spinrt.mail.config import parse
from spinrt.mail.config_show import show
from tests.meta.source import ROOT

_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)


def test_every_bound_stands_there_with_its_default() -> None:
    """Keys as they are written in the configuration, values as `spinrt config show` shows them."""
    section = (ROOT / "docs/formats/smtp.md").read_text(encoding="utf-8").partition("## Bounds")[2].partition("## ")[0]

    shown = yaml.safe_load(show(parse("", Path("spinrt.yaml"))))["smtp"]

    assert dict(_ROW.findall(section)) == {key: str(value) for key, value in shown.items()}
