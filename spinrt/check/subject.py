"""What is checked: an extension in its directory, or a bare module, with the policy that it would have.

A bare module has no manifest. One is made of what it says by itself: it asks for every interface that it imports from,
and handles every function of a known interface that it exports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from spinrt import limits
from spinrt.errors import ConfigError, LinkError, SpinError, UsageError
from spinrt.runtime.domain import LIFECYCLE
from spinrt.runtime.policy import LIMITS_CEILING, Policy
from spinrt.sandbox.binary import parse
from spinrt.sandbox.binary_sections import FUNCTION_KIND
from spinrt.sandbox.loader import Extension, check_extension, read_directory, read_module
from spinrt.sandbox.manifest import YAML_ERRORS, Import, Manifest, StrictLoader
from spinrt.sandbox.manifest_handler import Handler
from spinrt.sandbox.wit import Interfaces, shipped


@dataclass(frozen=True, slots=True)
class Subject:
    """One extension, and what it would be granted.

    Attributes:
        manifest: Its own, or the one that was made for a bare module.
        code: The module.
        interfaces: What there is to import and to handle.
        policy: What it is granted: the given policy, or all that its manifest asks for.
        is_granted: Whether the policy was given.
        extension: The checked extension; none when it does not load.
        error: Why it does not load.
    """

    manifest: Manifest
    code: bytes
    interfaces: Interfaces
    policy: Policy
    is_granted: bool
    extension: Extension | None
    error: SpinError | None


def read_subject(path: Path, *, policy: Policy | None = None, wit: Sequence[Path] = ()) -> Subject:
    """Read an extension and check that it loads.

    Args:
        path: A directory with a manifest, or a module.
        policy: What it is granted; all that it asks for by default.
        wit: WIT files, or directories of them, besides the interfaces that come with spinrt.

    Raises:
        UsageError: A file cannot be read, or the manifest or WIT is malformed. (A module that does not load does not
            raise: it is in the answer.)
    """
    interfaces = Interfaces.load(wit, known=shipped()) if wit else shipped()
    if path.is_dir():
        manifest, code = read_directory(path)
    else:
        code = read_module(path)
        manifest = manifest_of(code, path.name, interfaces)
    return make_subject(manifest, code, interfaces, policy)


def make_subject(manifest: Manifest, code: bytes, interfaces: Interfaces, policy: Policy | None = None) -> Subject:
    """Return the subject of a module that is in memory; see `read_subject`."""
    extension, error = None, None
    try:
        extension = check_extension(manifest, code, interfaces=interfaces)
    except (UsageError, LinkError) as failure:
        error = failure
    given = _asked(manifest) if policy is None else policy
    return Subject(manifest, code, interfaces, given, policy is not None, extension, error)


def manifest_of(code: bytes, file_name: str, interfaces: Interfaces) -> Manifest:
    """Make the manifest of a bare module; its limits are the highest that need nobody's word.

    Raises:
        ModuleError: It is no module.
    """
    module = parse(code, file_name)
    exported = {export.name for export in module.exports if export.kind == FUNCTION_KIND}
    served = [LIFECYCLE] if any(name.startswith(f"{LIFECYCLE}#") for name in exported) else []
    return Manifest(
        name=_name_of(file_name),
        version="0.0.0",
        module=file_name,
        imports=tuple(Import(id_) for id_ in dict.fromkeys(found.module for found in module.imports)),
        exports=tuple(served),
        handlers=tuple(Handler(event=name) for name in _events(sorted(exported), interfaces)),
        limits=LIMITS_CEILING,
    )


def _events(exported: Iterable[str], interfaces: Interfaces) -> Iterable[str]:
    for name in exported:
        id_, _, function = name.partition("#")
        if id_ in interfaces and id_ != LIFECYCLE and function in interfaces.get(id_).functions:
            yield name


def _name_of(file_name: str) -> str:
    words = re.findall(r"[a-z0-9]+", file_name.lower().removesuffix(".wasm"))
    name = "-".join(words)
    return name if name[:1].isalpha() else f"module-{name}".rstrip("-")


def _asked(manifest: Manifest) -> Policy:
    """All that the manifest asks for, function by function as it asks."""
    wanted = {one.interface: {"functions": list(one.functions)} if one.functions else {} for one in
              manifest.imports}  # fmt: skip
    return Policy.from_mapping({"grants": wanted}, where=f"manifest of {manifest.name}")


def read_policy(path: Path) -> Policy:
    """Read a policy file: what stands under ``extensions.NAME`` of a configuration.

    Raises:
        ConfigError: It cannot be read, is not YAML, or says something that a policy cannot say.
    """
    try:
        text = path.read_bytes()[: limits.CONFIG_BYTES_MAX + 1]
    except OSError as error:
        raise ConfigError(f"policy {path}: cannot be read: {error.strerror}") from error
    if len(text) > limits.CONFIG_BYTES_MAX:
        raise ConfigError(f"policy {path}: found over {limits.CONFIG_BYTES_MAX} bytes, expected at most that")
    try:
        content = yaml.load(text, Loader=StrictLoader)
    except YAML_ERRORS as error:
        raise ConfigError(f"policy {path}: not YAML: {str(error).splitlines()[0]}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"policy {path}: found {type(content).__name__}, expected a mapping")
    return Policy.from_mapping(content or {}, where=str(path))
