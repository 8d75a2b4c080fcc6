"""Guests for the safety suite: modules in text, as subjects."""

from __future__ import annotations

from functools import cache
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
