"""What holds for all tests: no example is too slow, since a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("spinrt", deadline=None)
settings.load_profile("spinrt")
