"""spinrt: run other people's code inside your process, safely, at the speed of a call.

Re-exports only, and each on first use, so that `import spinrt` loads no engine::

    from spinrt import Policy, Runtime
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; importing it would be most of what this file costs
if TYPE_CHECKING:
    from typing import Any

    from spinrt.errors import SpinError
    from spinrt.runtime.binding import ASYNC, SYNC, DomainExport, Ephemeral
    from spinrt.runtime.call import Transaction
    from spinrt.runtime.capability import Effect, Functions, Grant, HostInterface, mint
    from spinrt.runtime.debug import DebugDomain
    from spinrt.runtime.domain import Domain
    from spinrt.runtime.event import Event, OnFault
    from spinrt.runtime.guard import Check
    from spinrt.runtime.order import FIRST, LAST, After, Before
    from spinrt.runtime.policy import Policy
    from spinrt.runtime.runtime import Runtime
    from spinrt.runtime.supervisor import Meanwhile, Probation, Supervision
    from spinrt.runtime.swap import Swap
    from spinrt.sandbox.condition import Equal, Prefix, Range
    from spinrt.sandbox.types import Err, Ok
    from spinrt.sandbox.wit import Interfaces

if "t" in getattr(sys, "abiflags", ""):
    raise ImportError(
        "spinrt: found a free-threaded build of Python, expected one with the global interpreter lock: "
        "use an ordinary build of the same version (its `python -VV` does not say free-threading)"
    )

__version__ = "0.1.0"

_HOME = {
    "After": "spinrt.runtime.order",
    "ASYNC": "spinrt.runtime.binding",
    "Before": "spinrt.runtime.order",
    "Check": "spinrt.runtime.guard",
    "DebugDomain": "spinrt.runtime.debug",
    "Domain": "spinrt.runtime.domain",
    "DomainExport": "spinrt.runtime.binding",
    "Effect": "spinrt.runtime.capability",
    "Ephemeral": "spinrt.runtime.binding",
    "Equal": "spinrt.sandbox.condition",
    "Err": "spinrt.sandbox.types",
    "Event": "spinrt.runtime.event",
    "FIRST": "spinrt.runtime.order",
    "Functions": "spinrt.runtime.capability",
    "Grant": "spinrt.runtime.capability",
    "HostInterface": "spinrt.runtime.capability",
    "Interfaces": "spinrt.sandbox.wit",
    "LAST": "spinrt.runtime.order",
    "Meanwhile": "spinrt.runtime.supervisor",
    "mint": "spinrt.runtime.capability",
    "Ok": "spinrt.sandbox.types",
    "OnFault": "spinrt.runtime.event",
    "Policy": "spinrt.runtime.policy",
    "Prefix": "spinrt.sandbox.condition",
    "Probation": "spinrt.runtime.supervisor",
    "Range": "spinrt.sandbox.condition",
    "Runtime": "spinrt.runtime.runtime",
    "SpinError": "spinrt.errors",
    "Supervision": "spinrt.runtime.supervisor",
    "Swap": "spinrt.runtime.swap",
    "SYNC": "spinrt.runtime.binding",
    "Transaction": "spinrt.runtime.call",
}
__all__ = [  # noqa: RUF022 - the version comes first
    "__version__",
    "After",
    "ASYNC",
    "Before",
    "Check",
    "DebugDomain",
    "Domain",
    "DomainExport",
    "Effect",
    "Ephemeral",
    "Equal",
    "Err",
    "Event",
    "FIRST",
    "Functions",
    "Grant",
    "HostInterface",
    "Interfaces",
    "LAST",
    "Meanwhile",
    "mint",
    "Ok",
    "OnFault",
    "Policy",
    "Prefix",
    "Probation",
    "Range",
    "Runtime",
    "SpinError",
    "Supervision",
    "Swap",
    "SYNC",
    "Transaction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spinrt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
