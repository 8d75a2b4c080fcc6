"""What holds for all tests: no example is too slow, as a busy machine is no failure; no run finds what another kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("spinrt", deadline=None)
settings.load_profile("spinrt")


@pytest.fixture(scope="session", autouse=True)
def _no_compiled_modules_of_another_run() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPINRT_CACHE", "off")
        yield
