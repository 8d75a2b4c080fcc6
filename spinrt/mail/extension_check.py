"""One extension tried against the interfaces of the mail system, for ``spinrt extension check``.

It is loaded, linked and initialised as a server would do it, over a runtime whose maps are empty and whose log goes
nowhere; its handlers are installed on the mail system's events. Nothing is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from spinrt import limits
from spinrt.errors import ConfigError, LinkError
from spinrt.mail.extensions import check_grants, make_runtime
from spinrt.runtime.debug import DebugDomain
from spinrt.runtime.domain import Domain
from spinrt.runtime.linker import link
from spinrt.runtime.policy import Policy
from spinrt.sandbox.loader import Extension


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        extension: What was loaded.
        policy: What it was granted: the given policy, or all that its manifest asks for.
        missing: Imports that nobody served, one line each; empty when it works.
        error: Why it did not link; none when it works.
    """

    extension: Extension
    policy: Policy
    missing: tuple[str, ...]
    error: LinkError | None


def check(directory: Path, policy: Policy | None) -> Checked:
    """Load, link and initialise the extension in a directory.

    Args:
        directory: Its manifest and module.
        policy: What it is granted; all that its manifest asks for by default.

    Raises:
        UsageError: The manifest, the module or the policy is wrong.
        LinkError, ExtensionError: Its init refused or failed. (What is not served does not raise: it is in the answer.)
    """
    runtime = make_runtime(hostname="localhost", has_smarthost=True, log_sink=lambda record: None).runtime
    extension = runtime.read(directory)
    given = _asked(extension) if policy is None else policy
    check_grants(runtime, given)
    try:
        link(trial := runtime.create(extension, given), runtime.nameserver)
    except LinkError as error:
        return Checked(extension, given, _missing(trial), error)
    runtime.load(extension, given)
    return Checked(extension, given, (), None)


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
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"policy {path}: not YAML: {str(error).splitlines()[0]}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"policy {path}: found {type(content).__name__}, expected a mapping")
    return Policy.from_mapping(content or {}, where=str(path))


def _asked(extension: Extension) -> Policy:
    """All that the manifest asks for, function by function as it asks."""
    wanted = {one.interface: {"functions": list(one.functions)} if one.functions else {} for one in
              extension.manifest.imports}  # fmt: skip
    return Policy.from_mapping({"grants": wanted}, where=f"manifest of {extension.name}")


def _missing(domain: Domain) -> tuple[str, ...]:
    debug = DebugDomain()
    domain.resolve(debug)
    return tuple(debug.report())
