"""Which rows ``--only`` takes."""

from __future__ import annotations

import pytest

from benchmarks.selection import Selection
from spinrt.errors import UsageError


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ([], True),
        (["pipe"], True),
        (["pipe bytes=64"], True),
        (["pipe cores=same bytes=64"], True),
        (["tcp", "pipe"], True),
        (["pip"], False),
        (["pipe bytes=6"], False),
        (["pipe bytes=64 cores=two"], False),
        (["pipe outstanding=1"], False),
    ],
)
def test_rows_are_taken_by_name_and_any_of_their_parameters(wanted: list[str], taken: bool) -> None:
    assert Selection.parse(wanted).takes("pipe", {"bytes": 64, "cores": "same"}) is taken


@pytest.mark.parametrize("text", ["", "pipe ", "pipe  bytes=64", "bytes=64", "pipe bytes", "pipe bytes="])
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="NAME key=value"):
        Selection.parse([text])
