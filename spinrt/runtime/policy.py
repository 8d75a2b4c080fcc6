"""What the operator gives an extension: grants, limits and configuration.

```yaml
extensions:
  delivery:
    grants:
      spinrt:mail/message@1.0.0: {}                    # all of it
      spinrt:mail/delivery@1.0.0:
        functions: [file-into, set-flag]               # only these
        mailboxes: [INBOX, INBOX/lists/*]              # the interface's own attenuation
    limits: {deadline_ms: 10}                          # lowers what the manifest asks
    config: {rules: "…"}                               # answered by spinrt:extension/config
    exports:                                           # of what its manifest exports, only these, and ...
      example:filters/words@1.0.0: {to: [delivery]}    # ... only to these extensions; {} means to all that are
      granted it
    supervision: {faults: 100, window_s: 60}           # what follows from faults; see `Supervision`
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spinrt.errors import ConfigError
from spinrt.runtime.capability import Grant
from spinrt.runtime.supervisor import Supervision, read_supervision
from spinrt.sandbox.manifest import Limits, read_limits

# What a manifest may ask without the operator's word: none can hold up or fill a server by its manifest alone.
LIMITS_CEILING = Limits(
    memory_bytes=16 << 20,
    table_entries=4096,
    handles=1024,
    deadline_ms=100,
    effects=1024,
    host_calls=100_000,
    lift_bytes=16 << 20,
    undo_bytes=64 << 20,
    outside_calls_per_minute=1_000_000,
)


DEFAULT_SUPERVISION = Supervision()
POLICY_KEYS = ("grants", "limits", "config", "exports", "supervision")


@dataclass(frozen=True, slots=True)
class Policy:
    """One extension's policy; ``grants`` by interface id. The default grants nothing."""

    grants: Mapping[str, Grant] = field(default_factory=dict)
    limits: Limits = LIMITS_CEILING
    config: Mapping[str, str] = field(default_factory=dict)
    exports: Mapping[str, tuple[str, ...]] | None = None
    """Interface → names of the extensions that may import it, all when empty; none at all leaves the manifest's
    exports."""
    supervision: Supervision = DEFAULT_SUPERVISION
    """What follows from faults."""

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any], *, where: str = "policy") -> Policy:
        """Read a policy from the mapping that YAML gives.

        Args:
            content: Keys ``grants``, ``limits``, ``config``, ``exports`` and ``supervision``; all optional.
            where: What to call it in errors.

        Raises:
            ConfigError: It says something that a policy cannot say. Attenuations are checked when linking.
        """
        for key in content:
            if key not in POLICY_KEYS:
                raise ConfigError(f"{where}: found {key!r}, expected only {', '.join(POLICY_KEYS)}")
        grants = _mapping(_given(content, "grants"), f"{where}.grants")
        return cls(
            {id_: _grant(id_, given, f"{where}.grants.{id_}") for id_, given in grants.items()},
            read_limits(
                content.get("limits"),
                LIMITS_CEILING,
                lambda key, found, want: _refuse(f"{where}.limits{key}", found, want),
            ),
            {
                key: _config_text(value, f"{where}.config.{key}")
                for key, value in _mapping(_given(content, "config"), f"{where}.config").items()
            },
            _exports(content.get("exports"), f"{where}.exports"),
            read_supervision(
                content.get("supervision"),
                lambda key, found, want: _refuse(f"{where}.supervision{key}", found, want),
            ),
        )

    @classmethod
    def granting(
        cls,
        *interfaces: str,
        config: Mapping[str, str] | None = None,
        limits: Limits = LIMITS_CEILING,
        supervision: Supervision = DEFAULT_SUPERVISION,
    ) -> Policy:
        """Return a policy that grants these interfaces whole: for programs that embed the runtime, and for tests."""
        return cls({id_: Grant(id_) for id_ in interfaces}, limits, dict(config or {}), None, supervision)


def _grant(id_: str, given: object, where: str) -> Grant:
    content = _mapping({} if given is None or given is True else given, where)
    functions = content.get("functions", [])
    if not isinstance(functions, list) or not all(isinstance(name, str) for name in functions):
        raise _refuse(f"{where}.functions", functions, "a list of function names")
    if "functions" in content and not functions:
        raise _refuse(f"{where}.functions", functions, "at least one name; leave the key out to grant all")
    return Grant(id_, tuple(functions), {key: value for key, value in content.items() if key != "functions"}, where)


def _exports(found: object, where: str) -> Mapping[str, tuple[str, ...]] | None:
    if found is None:
        return None
    return {id_: _importers(given, f"{where}.{id_}") for id_, given in _mapping(found, where).items()}


def _importers(given: object, where: str) -> tuple[str, ...]:
    content = _mapping({} if given is None else given, where)
    names = content.get("to", [])
    if set(content) - {"to"} or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _refuse(where, given, "{to: [names of extensions]}, or {} for all")
    if "to" in content and not names:
        raise _refuse(f"{where}.to", names, "at least one name; leave the key out to allow all")
    return tuple(names)


def _given(content: Mapping[str, Any], key: str) -> object:
    """The value of a key; an empty one in YAML is none, and means nothing is given."""
    found = content.get(key)
    return {} if found is None else found


def _mapping(found: object, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise _refuse(where, found, "a mapping")
    return found


def _config_text(found: object, where: str) -> str:
    if isinstance(found, bool):
        return "true" if found else "false"
    if not isinstance(found, str | int | float):
        raise _refuse(where, found, "text or a number")
    return str(found)


def _refuse(where: str, found: object, expected: str) -> ConfigError:
    return ConfigError(f"{where}: found {found!r:.80}, expected {expected}")
