"""The short form of the crash campaign; the long one is ``make crash-test``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mail import crash_campaign


@pytest.mark.timeout(120)
def test_no_acknowledged_message_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    """Five kills at seeded moments: acknowledged messages lie once, transactions are whole."""
    outcome = crash_campaign.run(tmp_path, kills=5, seed=20261121)
    assert outcome.problems == []
    assert outcome.acknowledged > 20
    assert outcome.snapshots > 0
