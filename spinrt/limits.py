"""Bounds that several parts share, with their units. A bound of one part alone lives in that part.

Names end in what is bounded and in its unit: ``_bytes_max``, ``_s``, ``_count_max``.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MESSAGE_BYTES_MAX: Final = 50 * MIB
"""Largest message taken by SMTP, LMTP or APPEND, unless the operator says otherwise."""

MESSAGE_BYTES_CEILING: Final = 2 * GIB - 1
"""Largest value an operator may set for it: sizes are u32 in the index and in what many IMAP clients can hold."""

BODY_CHUNK_BYTES_MAX: Final = 256 * KIB
"""Bytes of a message in one log record; bounds the memory of one message on its way in."""

ADDRESS_BYTES_MAX: Final = 254
"""Of a mail address (RFC 5321 4.5.3.1.3 less the angle brackets; RFC 3696 erratum 1690)."""

LOCAL_PART_BYTES_MAX: Final = 64
"""Of the part in front of ``@`` (RFC 5321 4.5.3.1.1)."""

DOMAIN_BYTES_MAX: Final = 255
"""Of a domain (RFC 5321 4.5.3.1.2)."""

USER_NAME_BYTES_MAX: Final = 64
"""Of an account's name."""

PASSWORD_BYTES_MAX: Final = 1024
"""Of a password in UTF-8; hashing costs time for every byte a stranger sends."""

CONFIG_BYTES_MAX: Final = 1 * MIB
"""Of a configuration file, an accounts file or a manifest."""
