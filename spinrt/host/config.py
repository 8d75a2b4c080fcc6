"""``spinrt:extension/config``: an extension reads what the operator configured for it, and for nobody else."""

from __future__ import annotations

from spinrt._core import Call
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain


class ConfigInterface(HostInterface):
    """Answers from the ``config`` of the importer's policy."""

    interface_id = "spinrt:extension/config@1.0.0"
    pure = ("get",)

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        values = dict(domain.policy.config)

        def get(call: Call | None, key: str) -> str | None:
            return values.get(key)

        return get
