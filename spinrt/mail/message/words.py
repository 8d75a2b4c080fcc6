"""Text of a message as a person reads it, for searching: encoded words, transfer encodings, character sets.

Nothing raises: what cannot be decoded is taken as it stands, unknown character sets as Latin-1.
"""

from __future__ import annotations

import binascii
import quopri
import re

_ENCODED_WORD = re.compile(rb"=\?([^?\s]{1,64})\?([BbQq])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(rb"(\?=)\s+(?==\?)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


def decode_text(data: bytes, charset: bytes) -> str:
    """Decode bytes; a character set that Python does not know, or that is no text codec, is read as Latin-1."""
    try:
        return data.decode(charset.decode("ascii"), "replace")
    except (LookupError, ValueError, UnicodeError):
        return data.decode("latin-1")


def decode_base64(data: bytes) -> bytes:
    """Decode base64, passing over bytes outside its alphabet and an incomplete end."""
    clean = _NOT_BASE64.sub(b"", data)
    clean = clean[: len(clean) - 1] if len(clean) % 4 == 1 else clean
    return binascii.a2b_base64(clean + b"=" * (-len(clean) % 4))


def decode_words(value: bytes) -> str:
    """A header value with its encoded words decoded (RFC 2047); other bytes are read as UTF-8, else Latin-1."""
    joined = _BETWEEN_WORDS.sub(rb"\1", value) if b"=?" in value else value
    pieces: list[str] = []
    position = 0
    for match in _ENCODED_WORD.finditer(joined):
        pieces.append(_plain(joined[position : match.start()]))
        pieces.append(decode_text(_word_bytes(match[2], match[3]), match[1].partition(b"*")[0]))
        position = match.end()
    pieces.append(_plain(joined[position:]))
    return "".join(pieces)


def decode_transfer(data: bytes, encoding: bytes) -> bytes:
    """Undo a Content-Transfer-Encoding; unknown ones leave the bytes as they are."""
    match encoding.lower():
        case b"base64":
            return decode_base64(data)
        case b"quoted-printable":
            return quopri.decodestring(data)
        case _:
            return data


def _word_bytes(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"Bb":
        return decode_base64(text)
    return quopri.decodestring(text, header=True)


def _plain(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
