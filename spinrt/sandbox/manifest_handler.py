"""The ``handlers`` of a manifest: which events an extension handles, and how each handler is installed.

Source: docs/formats/manifest.md, "Handlers".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spinrt.sandbox.condition import Condition, Equal, Prefix, Range, condition_text
from spinrt.sandbox.handler_type import CLOSURE_MAX
from spinrt.sandbox.manifest_checks import EVENT, Checker

ORDER: Final = 100
ORDER_MAX: Final = 1_000_000
QUANTUM_MS_MAX: Final = 60_000
_EXPORT: Final = re.compile(r"[!-~]{1,256}\Z")
_EXTENSION: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)*\Z")
_KEYS: Final = (
    "event",
    "order",
    "place",
    "before",
    "after",
    "export",
    "closure",
    "when",
    "guard",
    "filter",
    "cancels",
    "mode",
    "quantum_ms",
)


@dataclass(frozen=True, slots=True)
class Handler:
    """One event that the extension handles, and how.

    Attributes:
        event: Its name.
        order: Lower runs first.
        place: ``first``, ``last`` or empty.
        before, after: Names of extensions; empty: none.
        export: The module's export; empty: the one of the event's name.
        closure: Passed in front of the arguments, or none.
        when: Conditions that must all hold.
        guard: An export that must answer true; empty: none.
        filters, cancels: See `spinrt.runtime.event.Event.install`.
        mode: ``sync``, ``async`` or ``ephemeral``.
        quantum_ms: When an ephemeral one is ended; 0 for others.
    """

    event: str
    order: int = ORDER
    place: str = ""
    before: str = ""
    after: str = ""
    export: str = ""
    closure: int | None = None
    when: tuple[Condition, ...] = ()
    guard: str = ""
    filters: bool = False
    cancels: bool = False
    mode: str = "sync"
    quantum_ms: int = 0

    @property
    def export_name(self) -> str:
        return self.export or self.event

    @property
    def how(self) -> str:
        """How it is installed, where that is not the usual way: ``when user equals 'a' and guard wants, order 50``."""
        asked = [condition_text(one) for one in self.when] + [f"guard {self.guard}"] * bool(self.guard)
        places = [self.place, f"before {self.before}" * bool(self.before), f"after {self.after}" * bool(self.after)]
        said = [
            f"when {' and '.join(asked)}" * bool(asked),
            f"order {self.order}" * (self.order != ORDER),
            *places,
            f"by export {self.export}" * bool(self.export),
            f"closure {self.closure}" * (self.closure is not None),
            "filters" * self.filters,
            "cancels" * self.cancels,
            self.mode * (self.mode != "sync"),
            f"quantum {self.quantum_ms} ms" * bool(self.quantum_ms),
        ]
        return ", ".join(one for one in said if one)


def read_handler(check: Checker, key: str, found: object) -> Handler:
    """Check one item of ``handlers``: the name of an event, or a mapping."""
    item = check.mapping(key, {"event": found} if isinstance(found, str) else found, _KEYS)
    mode = _choice(check, key, item, "mode", ("sync", "async", "ephemeral"), "sync")
    handler = Handler(
        event=check.name(f"{key}.event", item.get("event"), EVENT),
        order=check.integer(f"{key}.order", item.get("order", ORDER), 0, ORDER_MAX),
        place=_choice(check, key, item, "place", ("first", "last"), ""),
        before=_named(check, key, item, "before", _EXTENSION, "the name of an extension"),
        after=_named(check, key, item, "after", _EXTENSION, "the name of an extension"),
        export=_named(check, key, item, "export", _EXPORT, "the name of an export"),
        closure=_closure(check, key, item),
        when=tuple(
            _condition(check, f"{key}.when[{n}]", one) for n, one in enumerate(check.items(item, "when", f"{key}.when"))
        ),
        guard=_named(check, key, item, "guard", _EXPORT, "the name of an export"),
        filters=check.flag(f"{key}.filter", item.get("filter", False)),
        cancels=check.flag(f"{key}.cancels", item.get("cancels", False)),
        mode=mode,
        quantum_ms=_quantum(check, key, item, mode),
    )
    if mode == "async" and (handler.filters or handler.cancels):
        raise check.refuse(f"{key}.mode", "async", "sync: this handler filters or cancels")
    return handler


def _choice(check: Checker, key: str, item: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    found = item.get(name, default)
    if found != default and found not in known:
        raise check.refuse(f"{key}.{name}", found, " or ".join(known))
    return str(found)


def _named(check: Checker, key: str, item: Mapping[str, Any], name: str, form: re.Pattern[str], expected: str) -> str:
    if name not in item:
        return ""
    found = item[name]
    if not isinstance(found, str) or not form.match(found):
        raise check.refuse(f"{key}.{name}", found, expected)
    return found


def _closure(check: Checker, key: str, item: Mapping[str, Any]) -> int | None:
    return check.integer(f"{key}.closure", item["closure"], 0, CLOSURE_MAX) if "closure" in item else None


def _quantum(check: Checker, key: str, item: Mapping[str, Any], mode: str) -> int:
    if mode == "ephemeral":
        return check.integer(f"{key}.quantum_ms", item.get("quantum_ms"), 1, QUANTUM_MS_MAX)
    if "quantum_ms" in item:
        raise check.refuse(f"{key}.quantum_ms", item["quantum_ms"], "nothing: the handler is not ephemeral")
    return 0


def _condition(check: Checker, key: str, found: object) -> Condition:
    """Check one item of ``when``: a field and what must be true of it. Whether it fits the event shows when loading."""
    item = check.mapping(key, found, ("field", "equals", "prefix", "at_least", "at_most"))
    field = check.text({f"{key}.field": item.get("field")}, f"{key}.field", _FIELD, "a name such as envelope.user")
    kinds = [kind for kind in ("equals", "prefix", "at_least") if kind in item]
    if "at_most" in item and "at_least" not in item:
        kinds.append("at_most")
    if len(kinds) != 1:
        raise check.refuse(key, " and ".join(kinds) or None, "one of equals, prefix, or at_least and at_most")
    if kinds == ["equals"]:
        return Equal(field, item["equals"])
    if kinds == ["prefix"]:
        return Prefix(field, item["prefix"])
    return Range(field, item.get("at_least"), item.get("at_most"))
