"""Messages as bytes: header fields, addresses and MIME structure found by offset, never written again.

Nothing here changes a byte of a message, and nothing here raises on a malformed one: what cannot be understood is left
out, or is seen as plain text. Time is linear in the bytes looked at; nesting and the number of parts are bounded.

``headers``: the header section. ``address``: address lists. ``mime``: the tree of parts. ``words``: text for searching.
``view``: one stored message, read as far as it is asked about.
"""

from __future__ import annotations

from spinrt.mail.message.headers import Headers, parse_headers

__all__ = ["Headers", "parse_headers"]
