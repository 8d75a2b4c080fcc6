"""Guests for the safety suite: modules in text, as subjects."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spinrt.check.subject import Subject, make_subject, manifest_of
from spinrt.runtime.policy import Policy
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source, shipped
from tests.guests import EVENTS, HOST, TEST_WIT, wat


@cache
def interfaces() -> Interfaces:
    """Those of the tests besides those of mail."""
    return Interfaces.parse([Source("test.wit", TEST_WIT)], known=shipped())


def subject(body: str, *, policy: Policy | None = None, **manifest: Any) -> Subject:
    """A module, under a manifest with these keys, or alone."""
    code = wat(f"(module {body})")
    content = {"spinrt": 1, "name": "guest", "version": "1.0.0", "module": "guest.wasm", "imports": [HOST], **manifest}
    made = Manifest.parse(yaml.safe_dump(content)) if manifest else manifest_of(code, "guest.wasm", interfaces())
    return make_subject(made, code, interfaces(), policy)


def handling(*names: str) -> list[dict[str, str]]:
    """The ``handlers`` of a manifest for these test events."""
    return [{"event": f"{EVENTS}#{name}"} for name in names]


def write_extension(directory: Path, body: str, *handlers: str, **manifest: Any) -> Path:
    """Write an extension and its WIT into a directory of its name, and return that."""
    directory.mkdir(exist_ok=True)
    content = {
        "spinrt": 1,
        "name": directory.name,
        "version": "1.0.0",
        "module": "m.wasm",
        "imports": [HOST] if handlers else [],
        "handlers": handling(*handlers),
        **manifest,
    }
    (directory / "manifest.yaml").write_text(yaml.safe_dump(content))
    (directory / "m.wasm").write_bytes(wat(f"(module {body})"))
    (directory / "test.wit").write_text(TEST_WIT)
    return directory
