"""The first configuration file, as ``spinrt config init`` writes it: short, commented, with the shipped extensions.

What the shipped extensions ask for is taken from their manifests, with the reasons that these give, so that an operator
sees what each line allows and can strike it out.
"""

from __future__ import annotations

import json
from pathlib import Path

import spinrt
from spinrt.errors import ConfigError
from spinrt.mail.config_reader import parse
from spinrt.mail.config_values import domain as read_domain
from spinrt.sandbox.manifest import Manifest

SHIPPED = Path(spinrt.__file__).parent / "extensions"

HEAD = """\
# Configuration of spinrt. `spinrt config check` checks it, `spinrt config show` shows every setting in force.
# Every key with its meaning: docs/operating/spinrt.example.yaml.

data_directory: data           # relative paths start at the directory of this file
hostname: localhost
domains: [{domain}]
# postmaster: alice            # account that gets mail for postmaster and nobody else claims

listen:                        # this machine only; host:port, unix:path, or null for not at all
  smtp: 127.0.0.1:2525
  lmtp: 127.0.0.1:2424
  imap: 127.0.0.1:2143

tls: {{self_signed: true}}       # or {{certificate: path.pem, key: path.pem}}

# Accounts stand in accounts.yaml beside this file; `spinrt user add NAME` adds one.

"""


def text(domain: str) -> str:
    """Return a first configuration for that mail domain.

    Raises:
        ConfigError: It is no domain.
    """
    try:
        name = parse(f"domain: {json.dumps(domain)}", Path("--domain")).require("domain", read_domain)
    except ConfigError:
        raise ConfigError(f"--domain: found {domain!r}, expected a mail domain, such as example.org") from None
    manifests = [Manifest.read(path) for path in sorted(SHIPPED.glob("*/manifest.yaml"))]
    extensions = "\n".join(_extension(manifest) for manifest in manifests)
    return HEAD.format(domain=name) + (f"extensions:\n{extensions}" if manifests else "")


def _extension(manifest: Manifest) -> str:
    lines = [f"  {manifest.name}:{f'   # {manifest.description}' if manifest.description else ''}", "    grants:"]
    for wanted in manifest.imports:
        line = f"      {wanted.interface}: {{}}"
        lines.append(f"{line:<50} # {wanted.why}" if wanted.why else line)
    if not manifest.imports:
        lines[-1] += " {}"
    return "\n".join(lines) + "\n"
