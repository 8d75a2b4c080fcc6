"""Dovecot as a throw-away instance: own configuration below one directory, plain text on loopback, no privileges.

Needs Debian's dovecot-imapd (``benchmarks/install-peers``). Started by root it runs as ``nobody``. What it is given is
what is good for it: index files are on local disk, file names carry the sizes (``S=``, ``W=``) as its own deliveries
write them, and one user has all of it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers.process import HOST, PeerMissing, ServerProcess, free_port, program

USER, PASSWORD = "bench", "sesame"
ROOT_RUNS_AS = "nobody"
LMTP_PROGRAM = Path("/usr/lib/dovecot/lmtp")

_CONFIGURATION = """
protocols = {protocols}
listen = {host}
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
default_internal_user = {account}
default_internal_group = {group}
default_login_user = {account}
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = {uid}
first_valid_gid = {gid}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_home = {directory}/home
mail_location = maildir:{directory}/home/Maildir
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={directory}/home allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  service_count = 1
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""
_LMTP = """
postmaster_address = postmaster@bench.example
service lmtp {{
  chroot =
  user = {account}
  client_limit = 1
  process_min_avail = 4
  inet_listener lmtp {{
    port = {port}
  }}
}}
"""


class Dovecot:
    """The instance; enter ``process`` to run it.

    Args:
        directory: An empty directory, reachable by the account that the instance runs as.
        lmtp: Take mail by LMTP, too, at ``lmtp_port``; needs Debian's dovecot-lmtpd.

    Raises:
        PeerMissing: Dovecot, or what it needs for LMTP, is not installed.
    """

    def __init__(self, directory: Path, *, lmtp: bool = False) -> None:
        server = program("dovecot")
        if lmtp and not LMTP_PROGRAM.exists():
            raise PeerMissing("dovecot-lmtpd is not installed; benchmarks/install-peers installs it (Debian, root)")
        self.version = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.port = free_port()
        self.lmtp_port = free_port() if lmtp else None
        self._directory = directory
        self._account = pwd.getpwnam(ROOT_RUNS_AS) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._maildir = directory / "home" / "Maildir"
        configuration = directory / "dovecot.conf"
        configuration.write_text(self._configuration())
        account = self._account if os.geteuid() == 0 else None
        ports = [self.port] if self.lmtp_port is None else [self.port, self.lmtp_port]
        self.process = ServerProcess(
            "dovecot", [server, "-F", "-c", str(configuration)], directory, ports, account=account
        )

    def fill(self, messages: Iterable[bytes]) -> int:
        """Write INBOX as a Maildir, before the start, and hand the directory to the instance's account.

        Lines end with LF in the files, as Dovecot's own deliveries write them.
        """
        for name in ("cur", "new", "tmp"):
            (self._maildir / name).mkdir(parents=True)
        count = 0
        for count, message in enumerate(messages, 1):
            content = message.replace(b"\r\n", b"\n")
            name = f"{1_700_000_000 + count}.M{count}P1.bench,S={len(content)},W={len(message)}:2,"
            (self._maildir / "cur" / name).write_bytes(content)
        if os.geteuid() == 0:
            self._hand_over()
        return count

    def arrived(self) -> int:
        """Messages that lie in INBOX."""
        return sum(len(os.listdir(self._maildir / name)) for name in ("cur", "new"))

    def _hand_over(self) -> None:
        uid, gid = self._account.pw_uid, self._account.pw_gid
        os.chown(self._directory, uid, gid)
        for place, directories, files in os.walk(self._directory):
            for name in (*directories, *files):
                os.chown(os.path.join(place, name), uid, gid)

    def _configuration(self) -> str:
        import grp

        account = self._account
        text = _CONFIGURATION.format(
            host=HOST,
            protocols="imap" if self.lmtp_port is None else "imap lmtp",
            port=self.port,
            directory=self._directory,
            account=account.pw_name,
            group=grp.getgrgid(account.pw_gid).gr_name,
            uid=account.pw_uid,
            gid=account.pw_gid,
            password=PASSWORD,
        )
        if self.lmtp_port is not None:
            text += _LMTP.format(account=account.pw_name, port=self.lmtp_port)
        return text
