"""spinrt: run other people's code inside your process, safely, at the speed of a call.

Re-exports only, and each on first use, so that `import spinrt` loads no engine::

    from spinrt import Policy, Runtime
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinrt.errors import SpinError
    from spinrt.runtime.call import Transaction
    from spinrt.runtime.capability import Effect, Functions, Grant, HostInterface
    from spinrt.runtime.debug import DebugDomain
    from spinrt.runtime.domain import Domain
    from spinrt.runtime.event import Event, OnFault
    from spinrt.runtime.policy import Policy
    from spinrt.runtime.runtime import Runtime
    from spinrt.runtime.supervisor import Meanwhile, Probation, Supervision
    from spinrt.sandbox.types import Err, Ok
    from spinrt.sandbox.wit import Interfaces

if "t" in getattr(sys, "abiflags", ""):
    raise ImportError(
        "spinrt: found a free-threaded build of Python, expected one with the global interpreter lock: "
        "use an ordinary build of the same version (its `python -VV` does not say free-threading)"
    )

__version__ = "0.1.0"

_HOME = {
    "DebugDomain": "spinrt.runtime.debug",
    "Domain": "spinrt.runtime.domain",
    "Effect": "spinrt.runtime.capability",
    "Err": "spinrt.sandbox.types",
    "Event": "spinrt.runtime.event",
    "Functions": "spinrt.runtime.capability",
    "Grant": "spinrt.runtime.capability",
    "HostInterface": "spinrt.runtime.capability",
    "Interfaces": "spinrt.sandbox.wit",
    "Meanwhile": "spinrt.runtime.supervisor",
    "Ok": "spinrt.sandbox.types",
    "OnFault": "spinrt.runtime.event",
    "Policy": "spinrt.runtime.policy",
    "Probation": "spinrt.runtime.supervisor",
    "Runtime": "spinrt.runtime.runtime",
    "SpinError": "spinrt.errors",
    "Supervision": "spinrt.runtime.supervisor",
    "Transaction": "spinrt.runtime.call",
}
__all__ = [  # noqa: RUF022 - the version comes first
    "__version__",
    "DebugDomain",
    "Domain",
    "Effect",
    "Err",
    "Event",
    "Functions",
    "Grant",
    "HostInterface",
    "Interfaces",
    "Meanwhile",
    "Ok",
    "OnFault",
    "Policy",
    "Probation",
    "Runtime",
    "SpinError",
    "Supervision",
    "Transaction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'spinrt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
