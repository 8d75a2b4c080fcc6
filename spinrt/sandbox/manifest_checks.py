"""Checks that every part of a manifest needs; an error names the file, the key, what was found and expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from spinrt.errors import ManifestError

LIST_LENGTH_MAX: Final = 256
INTERFACE: Final = re.compile(r"[a-z][a-z0-9-]*:[a-z][a-z0-9-]*/[a-z][a-z0-9-]*@\d+\.\d+\.\d+\Z")
EVENT: Final = re.compile(INTERFACE.pattern[:-2] + r"#[a-z][a-z0-9-]*\Z")


class Checker:
    """Checks values of one manifest.

    Args:
        where: What to call it in errors.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def refuse(self, key: str, found: object, expected: str) -> ManifestError:
        """Make the error for a value that a manifest cannot have."""
        return ManifestError(f"{self._where}: {key}: found {_short(found)}, expected {expected}")

    def mapping(self, key: str, found: object, known: tuple[str, ...]) -> Mapping[str, Any]:
        """Check a mapping that has only known keys."""
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise self.refuse(key, found, "a mapping")
        for name in found:
            if name not in known:
                raise self.refuse(key, name, f"only {', '.join(known)}")
        return found

    def items(self, root: Mapping[str, Any], key: str, place: str = "") -> list[Any]:
        """Check a list; a key that is left out is an empty one. ``place`` names it in errors, or else its key."""
        found = root.get(key, [])
        if not isinstance(found, list) or len(found) > LIST_LENGTH_MAX:
            raise self.refuse(place or key, found, f"a list of at most {LIST_LENGTH_MAX}")
        return found

    def text(
        self, root: Mapping[str, Any], key: str, form: re.Pattern[str] | None, expected: str, default: str | None = None
    ) -> str:
        """Check a text, and its form if there is one."""
        found = root.get(key, default)
        if not isinstance(found, str) or (form is not None and not form.match(found)):
            raise self.refuse(key, found, expected)
        return found

    def name(self, key: str, found: object, form: re.Pattern[str]) -> str:
        """Check the name of an interface or an event."""
        example = "spinrt:kv/store@1.0.0" if form is INTERFACE else "spinrt:mail/delivery-events@1.0.0#deliver"
        if not isinstance(found, str) or not form.match(found):
            raise self.refuse(key, found, f"a name such as {example}")
        return found

    def integer(self, key: str, found: object, low: int, high: int) -> int:
        """Check an integer and its bounds, both inclusive."""
        if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
            raise self.refuse(key, found, f"an integer from {low} to {high}")
        return found

    def flag(self, key: str, found: object) -> bool:
        """Check true or false."""
        if not isinstance(found, bool):
            raise self.refuse(key, found, "true or false")
        return found


def _short(found: object) -> str:
    text = "nothing" if found is None else repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."
