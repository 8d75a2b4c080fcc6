"""MIME trees of messages that were asked about lately, so that a client reading an attachment piece by piece does not
have the message parsed for each piece.
"""

from __future__ import annotations

from collections import OrderedDict

from spinrt.mail.message.mime import Part
from spinrt.mail.store.model import Body

TREES_MAX = 64
HEADER_BYTES_MAX = 256 * 1024
"""A tree holds the header sections of its parts; one with more than this is not kept."""


class TreeCache:
    """Trees by content; bodies never change, so nothing is ever out of date."""

    def __init__(self) -> None:
        self._trees: OrderedDict[tuple[bytes, bytes], Part] = OrderedDict()

    def get(self, body: Body) -> Part | None:
        key = (body.digest, body.prefix)
        tree = self._trees.get(key)
        if tree is not None:
            self._trees.move_to_end(key)
        return tree

    def put(self, body: Body, tree: Part) -> None:
        if _header_bytes(tree) > HEADER_BYTES_MAX:
            return
        self._trees[(body.digest, body.prefix)] = tree
        if len(self._trees) > TREES_MAX:
            self._trees.popitem(last=False)


def _header_bytes(tree: Part) -> int:
    total, parts = 0, [tree]
    while parts:
        part = parts.pop()
        total += len(part.headers.data)
        parts.extend(part.children)
        if part.message is not None:
            parts.append(part.message)
    return total
