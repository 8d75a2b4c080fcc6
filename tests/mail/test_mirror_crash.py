"""The short form of the mirror campaign; the long one is ``make mirror-campaign``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mail import mirror_campaign


@pytest.mark.timeout(180)
def test_kills_of_either_side_leave_a_whole_mirror(tmp_path: Path) -> None:
    """Six kills at seeded moments: what the mirror has is always whole, and in the end it is the source."""
    outcome = mirror_campaign.run(tmp_path, kills=6, seed=3)

    assert outcome.problems == []
    assert outcome.messages > 20
    assert outcome.source_kills
    assert outcome.mirror_kills
