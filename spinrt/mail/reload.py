"""Changed extensions in a running server: what the configuration says now, with as few changes as that needs.

Only the section ``extensions`` counts. An extension is touched when its section, its manifest or its module changed:
loaded when it is new, replaced when it was there (`Runtime.replace`: the last good version goes on when anything is
wrong, and comes back when the new one fails too often), unloaded when it is gone or disabled. What fails is told, and
does not keep the others from being reloaded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from spinrt import trace
from spinrt.errors import SpinError
from spinrt.mail.config import ExtensionConfig
from spinrt.mail.extensions import directory_of, put_in_place
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.manifest import Manifest

Fingerprint: TypeAlias = tuple[Any, ...]

_LOG = trace.component("extensions")


@dataclass(slots=True)
class Reloaded:
    """What a reload did, by name; ``failed`` gives the error as one line."""

    loaded: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unloaded: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> list[str]:
        """Extensions that run now and did not, or ran another version."""
        return [*self.loaded, *self.replaced]


class Reloader:
    """Knows what the loaded extensions were made from.

    Args:
        runtime: Where they are loaded.
        configured: What it was loaded from.
    """

    def __init__(self, runtime: Runtime, configured: Mapping[str, ExtensionConfig]) -> None:
        self._runtime = runtime
        self._seen = {name: fingerprint(config) for name, config in configured.items() if name in runtime.domains}

    def apply(self, configured: Mapping[str, ExtensionConfig]) -> Reloaded:
        """Bring what is loaded to what is configured now, as far as possible; never raises for an extension."""
        done = Reloaded()
        wanted = {name: config for name, config in configured.items() if config.enabled}
        for name in reversed([name for name in self._runtime.domains if name not in wanted]):  # importers first
            self._unload(name, done)
        for name, config in wanted.items():
            self._bring(name, config, done)
        return done

    def _unload(self, name: str, done: Reloaded) -> None:
        try:
            self._runtime.unload(self._runtime.domains[name])
        except SpinError as error:
            self._fail(name, error, done)
            return
        self._seen.pop(name, None)
        done.unloaded.append(name)
        trace.log(_LOG, logging.INFO, "unloaded", extension=name)

    def _bring(self, name: str, config: ExtensionConfig, done: Reloaded) -> None:
        found = fingerprint(config)
        was_loaded = name in self._runtime.domains
        if was_loaded and found == self._seen.get(name):
            self._note_unchanged(name, done)
            return
        try:
            put_in_place(self._runtime, config)
        except SpinError as error:
            self._fail(name, error, done)
            return
        self._seen[name] = found
        (done.replaced if was_loaded else done.loaded).append(name)

    def _note_unchanged(self, name: str, done: Reloaded) -> None:
        """What is configured has been put in place; it may have given its place back since."""
        returned = self._runtime.returned.get(name)
        if returned is None:
            done.unchanged.append(name)
        else:
            done.failed[name] = f"{returned}: {returned.reason}; change it to have it tried again"

    def _fail(self, name: str, error: SpinError, done: Reloaded) -> None:
        loaded = self._runtime.domains.get(name)
        line = error.line()
        if loaded is not None and "goes on" not in line:
            line = f"{line}; version {loaded.extension.manifest.version} goes on"
        done.failed[name] = line
        trace.log(_LOG, logging.ERROR, "not reloaded", extension=name, reason=line)


def fingerprint(config: ExtensionConfig) -> Fingerprint:
    """Return what a loaded extension depends on; where in the file it is written does not count."""
    policy = config.policy
    grants = {id_: replace(grant, where="") for id_, grant in policy.grants.items()}
    return (replace(policy, grants=grants), config.order, config.path, *_files(directory_of(config)))


def _files(directory: Path) -> tuple[bytes | None, ...]:
    """Digests of the manifest and of the module that it names; none for what cannot be read."""
    manifest = directory / "manifest.yaml"
    try:
        module = directory / Manifest.read(manifest).module
    except SpinError:
        return (_digest(manifest), None)
    return (_digest(manifest), _digest(module))


def _digest(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
