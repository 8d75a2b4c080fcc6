"""Commands that run in the process of the tests set up its loggers: each test leaves them as it found them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from spinrt import trace


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the loggers as they were."""
    logger = logging.getLogger(trace.ROOT)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before
