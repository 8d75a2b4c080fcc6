"""Postfix as a throw-away instance: own configuration, queue and state below one directory, ports of loopback.

Needs Debian's postfix (``benchmarks/install-peers``) and to be started by root, as Postfix demands. What it is given is
what is good for it: mail is discarded behind the queue unless it is to go somewhere, no names are looked up, no header
is rewritten, processes are kept for thousands of messages. It syncs each message in its queue before it accepts it, and
that stays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.peers.process import HOST, SEARCH_PATH, PeerFailed, PeerMissing, ServerProcess, free_port, program

DOMAIN: Final = "example.com"
DRAIN_TIMEOUT_S: Final = 30.0
_QUEUES: Final = ("incoming", "active")
_SENT: Final = b" status=sent "

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/state
maillog_file = /dev/stdout
myhostname = bench.example
mydestination =
mynetworks = 127.0.0.0/8
relay_domains = {domain}
relay_transport = {transport}
default_transport = discard:
inet_interfaces = {host}
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
local_header_rewrite_clients =
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
milter_default_action = tempfail
max_use = 100000
max_idle = 600s
"""
_MASTER = """
cleanup  unix       n - n - 0 cleanup
qmgr     unix       n - n 300 1 qmgr
rewrite  unix       - - n - - trivial-rewrite
bounce   unix       - - n - 0 bounce
defer    unix       - - n - 0 bounce
trace    unix       - - n - 0 bounce
proxymap unix       - - n - - proxymap
error    unix       - - n - - error
retry    unix       - - n - - error
discard  unix       - - n - - discard
lmtp     unix       - - n - - lmtp
anvil    unix       - - n - 1 anvil
postlog  unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """The instance; enter ``process`` to run it.

    Args:
        directory: An empty directory that every user may enter.
        listeners: Name of each port to listen on → settings for it, as ``name=value`` without a blank.
        transport: Where mail goes, as Postfix writes it: ``lmtp:inet:127.0.0.1:24``.

    Attributes:
        ports: By the names of the listeners.

    Raises:
        PeerMissing: Postfix is not installed, or we are not root.
        PeerFailed: It does not take its configuration.
    """

    def __init__(self, directory: Path, listeners: Mapping[str, Sequence[str]], *, transport: str = "discard:") -> None:
        self.check_available()
        self._transport = transport
        self.ports = {name: free_port() for name in listeners}
        self.version = _setting("mail_version")
        self._directory = directory
        configuration = directory / "configuration"
        self._configure(configuration, listeners)
        checked = subprocess.run(
            [program("postfix"), "-c", configuration, "check"], capture_output=True, text=True, check=False
        )
        if checked.returncode:
            raise PeerFailed(f"postfix: does not take its configuration: {checked.stderr.strip()}")
        master = Path(_setting("daemon_directory")) / "master"
        self.process = ServerProcess(
            "postfix", [str(master), "-c", str(configuration), "-s"], directory, list(self.ports.values())
        )

    @staticmethod
    def check_available() -> None:
        """Raises PeerMissing: Postfix is not installed, or we are not root."""
        program("postfix")
        if os.geteuid() != 0:
            raise PeerMissing("Postfix must be started by root: run the benchmark as root")

    def _configure(self, configuration: Path, listeners: Mapping[str, Sequence[str]]) -> None:
        for name in ("configuration", "queue", "state"):
            (self._directory / name).mkdir()
        shutil.chown(self._directory / "state", _setting("mail_owner"))
        main = _MAIN.format(directory=self._directory, host=HOST, domain=DOMAIN, transport=self._transport)
        (configuration / "main.cf").write_text(main)
        services = [_listener(self.ports[name], settings) for name, settings in listeners.items()]
        (configuration / "master.cf").write_text(_MASTER + "\n".join(services) + "\n")

    def drain(self) -> None:
        """Wait until nothing is in the queue.

        Raises:
            PeerFailed: Something stays there.
        """
        end = time.monotonic() + DRAIN_TIMEOUT_S
        while any(self._queued(name) for name in _QUEUES):
            if time.monotonic() > end:
                raise PeerFailed(f"postfix: its queue was not empty after {DRAIN_TIMEOUT_S:g} s")
            time.sleep(0.002)

    def sent(self) -> int:
        """Messages that went through the queue, as the log says."""
        return self.process.output.read_bytes().count(_SENT)

    def _queued(self, name: str) -> bool:
        with os.scandir(self._directory / "queue" / name) as entries:
            return any(True for _ in entries)


def _listener(port: int, settings: Sequence[str]) -> str:
    options = "".join(f" -o {setting}" for setting in settings)
    return f"{HOST}:{port} inet n - n - - smtpd{options}"


def _setting(name: str) -> str:
    """What this Postfix was built with."""
    done = subprocess.run(
        [program("postconf"), "-d", "-h", name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": SEARCH_PATH},
    )
    return done.stdout.strip()
