"""The fuzz target for IMAP on its seeds and on mutations of them, from fixed random seeds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.fuzz_imap import check

SEEDS = sorted((Path(__file__).parent / "seeds" / "imap").glob("*.txt"))
SPLICES = (
    b"{3}\r\n",
    b"{3+}\r\n",
    b"\r\n",
    b"\n",
    b"(",
    b")",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"*",
    b"&",
    b"{99999999999+}\r\n",
)


def mutated(data: bytes, choose: random.Random) -> bytes:
    """A few cuts, splices and repeats of an input."""
    for _ in range(choose.randint(1, 5)):
        place = choose.randint(0, len(data))
        other = choose.randint(place, min(len(data), place + 30))
        match choose.randrange(3):
            case 0:
                data = data[:place] + choose.choice(SPLICES) + data[place:]
            case 1:
                data = data[:place] + data[other:]
            case _:
                data = data[:other] + data[place:other] + data[other:]
    return data


def test_there_are_seeds() -> None:
    """An empty directory would make the other tests pass without looking at anything."""
    assert len(SEEDS) >= 5


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_seed_and_its_mutations_hold_the_invariant(path: Path) -> None:
    """Each seed as it is, and 150 variations of it."""
    data = path.read_bytes()
    check(data)
    choose = random.Random(path.name)
    for _ in range(150):
        check(mutated(data, choose))
