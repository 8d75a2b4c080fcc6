"""The tiers that every test of the dispatcher runs on."""

from __future__ import annotations

import pytest

from spinrt.runtime.tables import TIERS


@pytest.fixture(params=sorted(TIERS))
def tier(request: pytest.FixtureRequest) -> int:
    """A dispatcher; 0 is the reference."""
    found: int = request.param
    return found
