"""The writer of record fields in plain Python: what the core's `RecordWriter` must agree with."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from spinrt.errors import UsageError
from spinrt.mail.store.model import Body, Deliver, KvWrite

T = TypeVar("T")


class Writer:
    """Collects the fields of one record, the first of which is a u8 version."""

    def __init__(self, version: int) -> None:
        self._data = bytearray((version,))

    def u8(self, value: int) -> None:
        self._data += pack(">B", value)

    def u32(self, value: int) -> None:
        self._data += pack(">I", value)

    def u64(self, value: int) -> None:
        self._data += pack(">Q", value)

    def i32(self, value: int) -> None:
        self._data += pack(">i", value)

    def i64(self, value: int) -> None:
        self._data += pack(">q", value)

    def blob(self, value: bytes) -> None:
        self.u32(len(value))
        self._data += value

    def text(self, value: str) -> None:
        try:
            self.blob(value.encode())
        except UnicodeEncodeError:
            raise UsageError("not Unicode") from None

    def all_texts(self, values: Sequence[str]) -> None:
        for value in values:
            self.text(value)

    def texts(self, values: Sequence[str]) -> None:
        self.items(values, self.text)

    def numbers(self, values: Collection[int]) -> None:
        self.items(values, self.u32)

    def items(self, values: Collection[T], write: Callable[[T], None]) -> None:
        self.u32(len(values))
        for value in values:
            write(value)

    def option(self, value: T | None, write: Callable[[T], None]) -> None:
        self.u8(value is not None)
        if value is not None:
            write(value)

    def body(self, body: Body) -> None:
        if len(body.digest) != 32:
            raise UsageError("digest")
        self._data += body.digest
        self.u64(body.size)
        self.u32(len(body.extents))
        for extent in body.extents:
            self._data += pack(">QII", *extent)
        self.blob(body.prefix)

    def deliver(self, change: Deliver) -> None:
        self.all_texts((change.delivery_id, change.protocol, change.peer, change.sender))
        self.texts(change.recipients)
        self.body(change.body)
        self.u32(len(change.copies))
        for copy in change.copies:
            self.all_texts((copy.user, copy.mailbox))
            self.texts(copy.flags)
            self.blob(copy.prefix)
        self.i64(change.received_s)
        self.u32(len(change.outbound))
        for outbound in change.outbound:
            self.all_texts((outbound.kind, outbound.extension, outbound.sender, outbound.recipient))
            self.option(outbound.body, self.body)
            self.blob(outbound.text)
        self.items(change.kv, self.kv)
        self.u32(len(change.tags))
        for extension, key, value in change.tags:
            self.all_texts((extension, key))
            self.blob(value)

    def kv(self, write: KvWrite) -> None:
        self.all_texts((write.space, write.key))
        self.option(write.value, self.blob)

    def take(self) -> bytes:
        return bytes(self._data)


def pack(form: str, *values: object) -> bytes:
    try:
        return struct.pack(form, *values)
    except struct.error as error:
        raise UsageError(str(error)) from None
