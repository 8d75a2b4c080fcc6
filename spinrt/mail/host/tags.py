"""``spinrt:undo/tags``: attach to a transaction what a later undo needs."""

from __future__ import annotations

from typing import ClassVar, Final

from spinrt._core import Call, Tag, TagFunction
from spinrt.mail.host.context import current_delivery
from spinrt.mail.host.delivery import promise
from spinrt.mail.host.patterns import read_patterns
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain
from spinrt.sandbox.types import Err, Result

KEY_BYTES_MAX: Final = 256
VALUE_BYTES_MAX: Final = 4096


class TagsInterface(HostInterface):
    """``spinrt:undo/tags``. A grant may carry ``keys``, patterns of keys that may be attached."""

    interface_id = "spinrt:undo/tags@1.0.0"
    attenuations: ClassVar = {"keys": "patterns of keys that may be attached"}

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        granted = read_patterns(grant, "keys")

        def checked(key: str) -> str | Err[str]:
            if not 0 < len(key.encode()) <= KEY_BYTES_MAX or not key.isprintable():
                return Err("malformed")
            return key if granted(key) else Err("not-granted")

        def tag(call: Call | None, key: str, value: bytes) -> Result:
            if current_delivery(call) is None:
                return Err("no-transaction")
            if len(value) > VALUE_BYTES_MAX:
                return Err("malformed")
            found = checked(key)
            return found if isinstance(found, Err) else promise(call, Tag(domain.name, found, value))

        return TagFunction(domain.name, VALUE_BYTES_MAX, checked, tag)
