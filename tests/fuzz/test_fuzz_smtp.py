"""Replays the SMTP fuzzer's seeds, whole and mutated, without atheris."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.fuzz_smtp import check

SEEDS = sorted((Path(__file__).parent / "seeds" / "smtp").iterdir())


def test_there_are_seeds() -> None:
    """The replay is not empty."""
    assert len(SEEDS) >= 20


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.name)
def test_seed_keeps_the_invariant(seed: Path) -> None:
    """The seed under every combination of options, then changed at random, from a fixed seed."""
    data = seed.read_bytes()
    for options in range(16):
        check(bytes([options]) + data[1:])
    choices = random.Random(seed.name)
    for _ in range(60):
        check(mutate(data, choices))


def mutate(data: bytes, choices: random.Random) -> bytes:
    """Change an octet, drop a run, double a run or put in something that matters to SMTP."""
    start = choices.randrange(len(data))
    end = start + choices.randint(1, 30)
    kind = choices.randrange(4)
    if kind == 0:
        return data[:start] + bytes([choices.randrange(256)]) + data[start + 1 :]
    if kind == 1:
        return data[:start] + data[end:]
    if kind == 2:
        return data[:end] + data[start:]
    tokens = [
        b"\r\n",
        b"\n",
        b"\r",
        b".",
        b"\r\n.\r\n",
        b"\0",
        b"BDAT 3\r\n",
        b"RSET\r\n",
        b" ",
        b"<>",
        b'"',
        b"=",
        b"\xff",
    ]
    return data[:start] + choices.choice(tokens) + data[start:]
