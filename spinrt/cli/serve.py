"""``spinrt serve``: the mail system in the foreground."""

from __future__ import annotations

import argparse

from spinrt import trace
from spinrt.cli.common import add_config, load_config
from spinrt.mail.config import Config
from spinrt.mail.config_values import Endpoint, TcpEndpoint

EPILOG = """\
Serves until SIGTERM or Ctrl-C; then takes nothing new, finishes what runs
(drain_timeout in the configuration) and stops. SIGHUP reads accounts and
extensions again, as does `spinrt reload` for extensions.

example:
  spinrt serve --config spinrt.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_config(parser)
    parser.add_argument("--log-level", choices=list(trace.LEVELS), help="override logging.level")


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    level, json_lines = arguments.log_level or config.logging.level, config.logging.format == "json"
    trace.setup(level=level, json_lines=json_lines, buffered=True)
    if lines := demo_lines(config):
        print("\n".join(lines), flush=True)
    from spinrt.mail.service import serve

    return serve(config)


def demo_lines(config: Config) -> list[str]:
    """How to try the account of `spinrt config init --demo-account`, while it has its first password; else nothing."""
    import argon2

    from spinrt.cli.config import DEMO_ACCOUNT, DEMO_PASSWORD

    account = config.accounts.get(DEMO_ACCOUNT)
    if account is None or not account.addresses:
        return []
    try:
        argon2.PasswordHasher().verify(account.password_hash, DEMO_PASSWORD)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHash):
        return []
    address = account.addresses[0]
    lines = [f"for trying it: account {DEMO_ACCOUNT!r}, password {DEMO_PASSWORD!r}, address {address}"]
    if smtp := _known_port(config.listen.smtp):
        lines.append(f"  printf 'Subject: hello\\n\\nhi\\n' | curl -sS --crlf -T - --mail-rcpt {address} smtp://{smtp}")
    if imap := _known_port(config.listen.imap):
        lines.append(f"  curl -sS --user {DEMO_ACCOUNT}:{DEMO_PASSWORD} 'imap://{imap}/INBOX;MAILINDEX=1'")
    return lines


def _known_port(endpoint: Endpoint | None) -> TcpEndpoint | None:
    """The endpoint, if people can be told of it: port 0 is chosen when the server starts."""
    return endpoint if isinstance(endpoint, TcpEndpoint) and endpoint.port else None
