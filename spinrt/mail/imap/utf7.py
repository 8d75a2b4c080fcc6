"""Mailbox names on the wire: modified UTF-7 (RFC 3501 5.1.3).

Printable ASCII stands for itself, ``&`` is ``&-``, everything else is UTF-16 in base64, with ``,`` for ``/``, between
``&`` and ``-``. The decoder takes exactly what the encoder writes: one name has one spelling, so that two spellings can
never mean one mailbox.
"""

from __future__ import annotations

import binascii
import re

_UNPRINTABLE = re.compile(r"[^\x20-\x25\x27-\x7e]+")
_SHIFT = re.compile(rb"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> bytes:
    """Write a mailbox name as modified UTF-7. Raises UnicodeEncodeError for a lone surrogate."""
    return _UNPRINTABLE.sub(_encode_run, name).encode("ascii")


def decode(data: bytes) -> str:
    """Read a mailbox name. Raises ValueError with one line of reason when it is not what `encode` would write."""
    pieces: list[str] = []
    position = 0
    for match in _SHIFT.finditer(data):
        pieces.append(_plain(data[position : match.start()]))
        pieces.append(_decode_run(match[1]))
        position = match.end()
    pieces.append(_plain(data[position:]))
    name = "".join(pieces)
    if encode(name) != data:
        raise ValueError("mailbox name is not in the shortest form of modified UTF-7")
    return name


def _encode_run(match: re.Match[str]) -> str:
    """One run of characters outside printable ASCII; each ``&`` by itself, as ``&-`` never joins a shifted run."""
    pieces: list[str] = []
    for part in re.split("(&)", match[0]):
        if part == "&":
            pieces.append("&-")
        elif part:
            base64 = binascii.b2a_base64(part.encode("utf-16-be"), newline=False)
            pieces.append(f"&{base64.rstrip(b'=').replace(b'/', b',').decode('ascii')}-")
    return "".join(pieces)


def _decode_run(base64: bytes) -> str:
    if not base64:
        return "&"
    try:
        data = binascii.a2b_base64(base64.replace(b",", b"/") + b"=" * (-len(base64) % 4))
        return data.decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(f"mailbox name is not modified UTF-7: {error}") from None


def _plain(data: bytes) -> str:
    if b"&" in data:
        raise ValueError("mailbox name has an & that starts no modified UTF-7")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("mailbox name has a byte above 127; names are in modified UTF-7") from None
