"""Which rows are wanted: ``NAME`` or ``NAME key=value ...``, where parameters that are not named may have any value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from spinrt.errors import UsageError

_WANTED = re.compile(r"[\w.-]+( [\w.-]+=\S+)*")


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows by name and parameters; without any, all of them."""

    wanted: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Selection:
        """Take what the command line says.

        Raises:
            UsageError: One is not of that form.
        """
        for text in texts:
            if not _WANTED.fullmatch(text):
                raise UsageError(f"--only {text!r}: expected a row's name, or 'NAME key=value ...', one blank between")
        return cls(tuple(texts))

    def takes(self, name: str, params: Mapping[str, object]) -> bool:
        """Whether a row of this name with these parameters is wanted."""
        return not self.wanted or any(_fits(text, name, params) for text in self.wanted)

    def names(self, name: str) -> bool:
        """Whether rows of this name are asked for, all or some."""
        return any(text.split(" ")[0] == name for text in self.wanted)


def _fits(text: str, name: str, params: Mapping[str, object]) -> bool:
    wanted, *pairs = text.split(" ")
    has = {f"{key}={value}" for key, value in params.items()}
    return wanted == name and has.issuperset(pairs)
