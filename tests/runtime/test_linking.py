"""Linking: nothing is ambient, everything missing is named, and an import is no more than its grant."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import (
    ConfigError,
    LinkDenied,
    ManifestError,
    ModuleError,
    SignatureMismatch,
    SpinError,
    UnresolvedImport,
)
from spinrt.host.config import ConfigInterface
from spinrt.host.kv import KvInterface
from spinrt.host.logging import LoggingInterface
from spinrt.runtime.capability import Grant
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import check_extension
from spinrt.sandbox.manifest import Manifest
from tests.guests import BUMP, EVENTS, HOST, extension, granted, runtime, wat

KV = "spinrt:kv/store@1.0.0"
LOGGING = "spinrt:logging/logging@1.0.0"
CONFIG = "spinrt:extension/config@1.0.0"


def asking(*imports: str, body: str) -> Any:
    manifest = Manifest.parse(f"{{spinrt: 1, name: asker, version: 1.0.0, module: a.wasm, imports: {list(imports)}}}")
    return check_extension(manifest, wat(f"(module {body})"))


def test_every_missing_grant_is_listed_with_its_policy() -> None:
    """One error names all that is missing; pasting its hint into the policy links."""
    import yaml

    body = (
        f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))'
        f'(import "{LOGGING}" "write" (func (param i32 i32 i32 i32 i32)))'
    )
    made = Runtime()
    made.export(KvInterface())
    made.export(LoggingInterface())
    loaded = asking(KV, LOGGING, body=body)
    with pytest.raises(LinkDenied, match="delete") as caught:
        made.load(loaded)
    assert LOGGING in str(caught.value)
    lines = str(caught.value).partition("grants: ")[2]
    made.load(loaded, Policy.from_mapping({"grants": yaml.safe_load(lines)}))


def test_grant_of_some_functions_does_not_give_the_others() -> None:
    """A narrowed grant leaves the rest unlinked."""
    body = f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))'
    made = Runtime()
    made.export(KvInterface())
    with pytest.raises(LinkDenied, match="delete"):
        made.load(asking(KV, body=body), Policy({KV: Grant(KV, ("get",))}))


def test_module_cannot_import_more_than_its_manifest_asks() -> None:
    """The manifest is what the operator reads; the module may not go beyond it."""
    with pytest.raises(ManifestError, match="does not ask"):
        asking(body=f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))')


@pytest.mark.parametrize(
    ("imported", "error", "says"),
    [
        (
            '"wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))',
            UnresolvedImport,
            "nothing is ambient",
        ),
        ('"env" "puts" (func (param i32) (result i32))', UnresolvedImport, "nothing is ambient"),
        (f'"{KV}" "memory" (memory 1)', ModuleError, "functions only"),
        (f'"{KV}" "table" (table 1 funcref)', ModuleError, "functions only"),
        (f'"{KV}" "g" (global (mut i32))', ModuleError, "functions only"),
        (f'"{KV}" "steal" (func)', UnresolvedImport, "no such function"),
        (f'"{KV}" "delete" (func (param i32) (result i32))', SignatureMismatch, "delete: func(key: string) -> bool"),
        ('"spinrt:kv/store@2.0.0" "delete" (func)', UnresolvedImport, "1.0.0"),
        ('"spinrt:nothing/here@1.0.0" "f" (func)', UnresolvedImport, "spinrt:nothing/here"),
    ],
)
def test_imports_that_cannot_be_are_refused_by_name(imported: str, error: type[SpinError], says: str) -> None:
    """Ambient authority, shared state, unknown names, wrong types and versions are refused before anything runs."""
    with pytest.raises(error) as caught:
        asking(KV, body=f"(import {imported})")
    assert says in caught.value.line()


def test_promised_exports_must_be_there_with_their_type() -> None:
    """A handler that the manifest promises is checked when the extension is loaded."""
    with pytest.raises(ModuleError, match="found none"):
        extension("", handlers=("ping",))
    with pytest.raises(SignatureMismatch, match="found"):
        extension(f'(func (export "{EVENTS}#ping") (param i32))', handlers=("ping",))
    with pytest.raises(SignatureMismatch, match="cabi_realloc"):
        extension(f'(func (export "{EVENTS}#ping")) (func (export "cabi_realloc"))', handlers=("ping",))
    with pytest.raises(SignatureMismatch, match="cabi_post"):
        extension(
            f'(func (export "{EVENTS}#ping")) (func (export "cabi_post_{EVENTS}#ping") (param i64))', handlers=("ping",)
        )
    with pytest.raises(ModuleError, match="memory"):
        extension(f'(func (export "{EVENTS}#ping")) (func (export "memory"))', handlers=("ping",))


def test_unknown_attenuation_is_refused() -> None:
    """A key that an interface does not know is a mistake in the policy, not a wider grant."""
    made = Runtime()
    made.export(KvInterface())
    body = f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))'
    with pytest.raises(ConfigError, match="bytes_max"):
        made.load(asking(KV, body=body), Policy({KV: Grant(KV, (), {"bytes": 5})}))
    with pytest.raises(ConfigError, match="number of bytes"):
        made.load(asking(KV, body=body), Policy({KV: Grant(KV, (), {"bytes_max": "much"})}))
    assert made.domains == {}


def test_authorizer_and_withheld_interfaces_say_why() -> None:
    """An exporter may refuse an importer; an interface that is not exported gives its reason."""
    body = f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))'
    made = Runtime()
    made.nameserver.withhold(KV, "no store is configured")
    with pytest.raises(UnresolvedImport) as caught:
        made.load(asking(KV, body=body), Policy.granting(KV))
    assert "no store is configured" in caught.value.hint
    made.export(KvInterface(), lambda importer, grant: f"{importer.name} is not welcome")
    with pytest.raises(LinkDenied, match="asker is not welcome"):
        made.load(asking(KV, body=body), Policy.granting(KV))


def test_policy_only_lowers_limits() -> None:
    """The manifest asks, the policy clamps."""
    body = f'(func (export "{EVENTS}#ping"))'
    made = runtime(events=("ping",))
    policy = Policy.from_mapping({"limits": {"deadline_ms": 5, "handles": 60000}})
    domain = made.load(extension(body, handlers=("ping",), limits={"deadline_ms": 100, "handles": 10}), policy)
    assert (domain.limits.deadline_ms, domain.limits.handles) == (5, 10)


def test_configuration_is_read_by_its_owner_only() -> None:
    """`config.get` answers from the importer's own policy."""
    seen: dict[str, str | None] = {}
    made = Runtime()
    interface = ConfigInterface()
    for name in ("one", "two"):
        manifest = Manifest.parse(f"{{spinrt: 1, name: {name}, version: 1.0.0, module: a.wasm}}")
        domain = made.load(check_extension(manifest, wat("(module)")), Policy(config={"who": name}))
        closure = interface.bind("get", Grant(CONFIG), domain)
        seen[name] = closure(None, "who")
        assert closure(None, "other") is None
    assert seen == {"one": "one", "two": "two"}


@pytest.mark.parametrize(
    "content",
    [
        {"grant": {}},
        {"grants": []},
        {"grants": {KV: {"functions": "get"}}},
        {"grants": {KV: {"functions": []}}},
        {"grants": {KV: False}},
        {"limits": {"deadline_ms": 0}},
        {"limits": {"memory": 5}},
        {"limits": [1]},
        {"config": {"rules": ["a"]}},
    ],
)
def test_malformed_policy_is_one_clear_line(content: dict[str, Any]) -> None:
    """What a policy cannot say is a ConfigError that names the key."""
    with pytest.raises(ConfigError) as caught:
        Policy.from_mapping(content, where="extensions.x")
    assert str(caught.value).startswith("extensions.x")
    assert "expected" in str(caught.value)


def test_drop_import_needs_no_function_grant() -> None:
    """A grant of some functions allows dropping what they lend."""
    body = f'(import "{HOST}" "[resource-drop]thing" (func (param i32))) {BUMP} (func (export "{EVENTS}#ping"))'
    made = runtime(events=("ping",))
    made.load(extension(body, handlers=("ping",)), Policy({HOST: Grant(HOST, ("note",))}))
    assert granted().grants[HOST].functions == ()


def test_manifest_alone_cannot_ask_for_much() -> None:
    """Without a word of the operator, limits end at a modest ceiling; the policy may raise it."""
    body = f'(func (export "{EVENTS}#ping"))'
    wish = {"deadline_ms": 60_000, "memory_bytes": 1 << 32}
    made = runtime(events=("ping",))
    domain = made.load(extension(body, handlers=("ping",), limits=wish))
    assert domain.limits.deadline_ms == 100
    assert domain.limits.memory_bytes == 16 << 20
    made.unload(domain)
    policy = Policy.from_mapping({"limits": {"deadline_ms": 3000}})
    assert made.load(extension(body, handlers=("ping",), limits=wish), policy).limits.deadline_ms == 3000
