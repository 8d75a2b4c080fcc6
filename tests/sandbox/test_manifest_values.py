"""Values that YAML itself stumbles over: one line that says where, as for anything else that is wrong."""

from __future__ import annotations

import pytest

from spinrt.errors import ManifestError
from spinrt.sandbox.manifest import Manifest

VALUES = [
    "2024-02-30",
    "9" * 5000,
    "!!int x",
    "!!int ''",
    "!!float x",
    "!!bool x",
    "!!timestamp 2024-13-01",
    '"\\U00110000"',
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:20])
def test_a_value_that_is_none_of_its_kind_is_a_mistake_of_the_manifest(value: str) -> None:
    """Not of spinrt."""
    with pytest.raises(ManifestError, match="not YAML"):
        Manifest.parse(f"spinrt: 1\nname: {value}\n")
