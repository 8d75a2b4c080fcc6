"""What holds for all tests: no example is too slow, as a busy machine is no failure; no run finds what another kept;
each test leaves the loggers as it found them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from spinrt import trace

settings.register_profile("spinrt", deadline=None)
settings.load_profile("spinrt")


@pytest.fixture(scope="session", autouse=True)
def _no_compiled_modules_of_another_run() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINRT_CACHE", "off")
        yield


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    logger = logging.getLogger(trace.ROOT)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before
