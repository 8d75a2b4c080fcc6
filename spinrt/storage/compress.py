"""Bodies as they are stored: plain, or as one zstd frame.

Owns when a body is worth compressing, and what a frame must be to be believed. Does not own where the bit stands that
says so (``record``).

A frame is what RFC 8878 describes, with its content size and without a checksum (the record has a digest), and nothing
follows it. Short messages have little in them that repeats, so they are compressed with a dictionary that comes with
the package, named by its id in the frame. *A dictionary never changes and never leaves the package*: what was written
with it could not be read any more. `benchmarks/make_dictionary.py` made it.

*Level 1*: the thread that serves everybody compresses. With the dictionary, level 3 leaves a tenth less of a short
message for half the time more; of base64, which long messages are, all levels leave the same.

Threads: a context serves one thread at a time, so each thread has its own.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Final

import zstandard

from spinrt.errors import CorruptRecord, FormatUnknown

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
PLAIN_BYTES_MAX: Final = 511
"""Longest body that is never compressed."""
SHORT_BYTES_MAX: Final = 64 * 1024
"""Longest body that the dictionary is used for."""
LEVEL: Final = 1
DICTIONARY_ID: Final = 32_769
"""The first of the numbers that RFC 8878, section 5, leaves for private use and that take two bytes in a frame."""
_DICTIONARY: Final = Path(__file__).with_name("mail-1.zdict")


class _Contexts:
    """What one thread compresses and decompresses with."""

    def __init__(self) -> None:
        dictionary = _dictionary()
        self.short = zstandard.ZstdCompressor(LEVEL, dict_data=dictionary, write_checksum=False)
        self.long = zstandard.ZstdCompressor(LEVEL, write_checksum=False)
        self.plain = zstandard.ZstdDecompressor(max_window_size=BODY_BYTES_MAX)
        self.with_dictionary = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=BODY_BYTES_MAX)


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    dictionary = zstandard.ZstdCompressionDict(_DICTIONARY.read_bytes(), zstandard.DICT_TYPE_FULLDICT)
    dictionary.precompute_compress(LEVEL)
    return dictionary


_local: Final = threading.local()


def _contexts() -> _Contexts:
    found: _Contexts | None = getattr(_local, "contexts", None)
    if found is None:
        found = _local.contexts = _Contexts()
    return found


def compress(body: bytes) -> bytes | None:
    """Return the frame of a body; none when it is short, or would not get smaller by an eighth."""
    size = len(body)
    if size <= PLAIN_BYTES_MAX:
        return None
    frame = (_contexts().short if size <= SHORT_BYTES_MAX else _contexts().long).compress(body)
    return frame if len(frame) <= size - size // 8 else None


def decompress(frame: bytes) -> bytes:
    """Return the body of a frame.

    Raises:
        CorruptRecord: Not one whole frame of a body of up to `BODY_BYTES_MAX` bytes.
        FormatUnknown: It needs a dictionary that this version does not have.
    """
    try:
        found = zstandard.get_frame_parameters(frame)
        if found.content_size > BODY_BYTES_MAX:
            raise CorruptRecord(f"zstd frame: found no size, or one over {BODY_BYTES_MAX} bytes")
        if found.dict_id not in (0, DICTIONARY_ID):
            raise FormatUnknown(
                f"zstd frame: found dictionary {found.dict_id}, expected {DICTIONARY_ID} or none",
                hint="a newer spinrt wrote it; run that",
            )
        context = _contexts().with_dictionary if found.dict_id else _contexts().plain
        if not found.content_size:
            raise CorruptRecord("zstd frame: found a body of 0 bytes, which is never compressed")
        body: bytes = context.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptRecord(f"zstd frame: {error}") from None
    if len(body) != found.content_size:
        raise CorruptRecord(f"zstd frame: found {len(body)} bytes, expected {found.content_size}")
    return body
