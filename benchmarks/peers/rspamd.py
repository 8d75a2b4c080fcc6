"""rspamd as a throw-away instance: a milter that people run, with the rules it comes with but for what asks others.

Needs Debian's rspamd (``benchmarks/install-peers``); configuration is that of the package, changed below one directory.
Off is all that asks DNS, Redis or a server of others, and all that learns; no message is refused. What is left scans
the message by itself: header and content rules, MIME, expressions compiled by Hyperscan.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Final

from benchmarks.peers.process import HOST, PeerFailed, PeerMissing, ServerProcess, free_port, program

ACCOUNT: Final = "_rspamd"
WORKERS: Final = 2
SETTLE_TIMEOUT_S: Final = 90.0
QUIET_CPU_SHARE: Final = 0.1
_LOOK_S: Final = 0.5
_QUIET_LOOKS: Final = 4
_OFF: Final = (
    *("rbl", "surbl", "spf", "dkim", "dkim_signing", "dmarc", "arc", "asn", "fuzzy_check", "mx_check", "bimi"),
    *("greylist", "ratelimit", "replies", "neural", "history_redis", "reputation", "url_redirector", "phishing"),
    *("rspamd_update", "elastic", "clickhouse", "whitelist"),
)

_CONFIGURATION = """
.include "$CONFDIR/common.conf"
options {{
  pidfile = false;
  .include "$CONFDIR/options.inc"
  .include(priority=10) "{directory}/options.inc"
}}
logging {{ type = "console"; level = "warning"; color = false; }}
worker "rspamd_proxy" {{
  bind_socket = "{socket} mode=0666";
  milter = yes;
  timeout = 30s;
  count = {workers};
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
worker "controller" {{ bind_socket = "{host}:{control}"; count = 1; secure_ip = "{host}"; }}
"""
# A port that nobody listens on: the kernel refuses at once.
_OPTIONS = """
dns { nameserver = ["127.0.0.1:9:1"]; timeout = 0.01; retransmits = 1; }
filters = "chartable,regexp";
"""
_OVERRIDE = """
actions { reject = null; greylist = null; add_header = 6; }
classifier "bayes" { enabled = false; }
"""


class Rspamd:
    """The instance; enter ``process`` to run it, and wait until it has `settle`\\ d.

    Args:
        directory: An empty directory, reachable by the account that it runs as.

    Raises:
        PeerMissing: rspamd is not installed.
    """

    def __init__(self, directory: Path) -> None:
        server = program("rspamd")
        told = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.version = told.rpartition(" ")[2]
        self.socket, self._control = directory / "milter.sock", free_port()
        self._configure(directory)
        account = _account() if os.geteuid() == 0 else None
        places = {"LOCAL_CONFDIR": directory, "DBDIR": directory / "state", "RUNDIR": directory, "LOGDIR": directory}
        command = [server, "-f", "-c", str(directory / "rspamd.conf")]
        command += [f"--var={name}={place}" for name, place in places.items()]
        self.process = ServerProcess("rspamd", command, directory, [self.socket, self._control], account=account)

    def settle(self) -> None:
        """Wait until it no longer compiles its expressions, which a new instance does for a quarter of a minute.

        Raises:
            PeerFailed: It goes on and on.
        """
        end = time.monotonic() + SETTLE_TIMEOUT_S
        quiet, before = 0, self.process.tree_cpu_seconds()
        while quiet < _QUIET_LOOKS:
            if time.monotonic() > end:
                raise PeerFailed(f"rspamd: still busy {SETTLE_TIMEOUT_S:g} s after its start")
            time.sleep(_LOOK_S)
            now = self.process.tree_cpu_seconds()
            quiet = quiet + 1 if now - before < QUIET_CPU_SHARE * _LOOK_S else 0
            before = now

    def scanned(self) -> int:
        """Messages that it looked at, by its own count."""
        with urllib.request.urlopen(f"http://{HOST}:{self._control}/stat", timeout=10.0) as answer:
            return int(json.load(answer)["scanned"])

    def _configure(self, directory: Path) -> None:
        state = directory / "state"
        state.mkdir()
        text = _CONFIGURATION.format(
            directory=directory, host=HOST, socket=self.socket, control=self._control, workers=WORKERS
        )
        (directory / "rspamd.conf").write_text(text)
        (directory / "options.inc").write_text(_OPTIONS)
        off = "".join(f"{module} {{ enabled = false; }}\n" for module in _OFF)
        (directory / "rspamd.conf.local.override").write_text(off + _OVERRIDE)
        if os.geteuid() == 0:
            for path in (directory, state):
                shutil.chown(path, ACCOUNT)


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise PeerMissing(
            f"rspamd: there is no account {ACCOUNT}; benchmarks/install-peers makes it (Debian)"
        ) from None
