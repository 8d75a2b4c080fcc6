"""Kill source and mirror again and again while mail comes in and updates go over, and look at what the mirror has.

    python -m tests.mail.mirror_campaign --kills 100 --seed 1

A real server that mirrors continuously, a real ``spinrt mirror serve``, and clients that send to the first. At moments
drawn from the seed one of the two is killed with SIGKILL and started again. While the mirror is down its directory is
opened: its current snapshot must be whole, every page and every body of it, and never be an older one than before. At
the end the mirror is brought up to date and promoted: it must serve what the source serves, byte for byte.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from spinrt.errors import NotFound
from spinrt.mail.config import load
from spinrt.mail.control import request
from spinrt.mail.mirror_server import identity_directory
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.promote import promote
from spinrt.mail.tls import pinned_pair
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.tree import pages as pages_of
from tests.mail.crash_campaign import START_TIMEOUT_S, USERS, Attempts, Client, Server
from tests.mail.service_support import config_text, fetch_at, free_port
from tests.progress import silent, teller


class MirrorProcess(Server):
    """``spinrt mirror serve``; ``imap`` is where it listens."""

    def start(self) -> None:
        command = [sys.executable, "-m", "spinrt", "mirror", "serve", "--config", str(self.config)]
        with (self.config.parent / "mirror.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.config.parent / "mirror.log").read_text()[-2000:])
            time.sleep(0.02)

    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(self.imap, timeout=5):
            return True
        return False


@dataclass
class Outcome:
    """What a campaign found. ``problems`` is empty when the mirror kept its word."""

    source_kills: int = 0
    mirror_kills: int = 0
    snapshots_seen: int = 0
    messages: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        return (
            f"kills of the source {self.source_kills}, of the mirror {self.mirror_kills}, snapshots looked into"
            f" {self.snapshots_seen}, messages {self.messages}, problems {len(self.problems)}"
        )


class Campaign:
    """One campaign below an empty directory."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.kept = directory / "standby" / "kept"
        self.source, self.mirror = _processes(directory, self.kept)
        self.outcome = Outcome()
        self._choices = random.Random(seed)
        self._last = (0, b"")

    def kill_one(self) -> None:
        time.sleep(self._choices.uniform(0.05, 1.2))
        if self._choices.random() < 0.5:
            self.outcome.source_kills += 1
            self.source.kill()
            self.source.start()
            return
        self.outcome.mirror_kills += 1
        self.mirror.kill()
        self.look()
        self.mirror.start()

    def look(self) -> None:
        """Open the mirror, which nobody has open, and read all of its current snapshot."""
        mirror = MirrorDirectory.open(self.kept)
        try:
            current = mirror.current()
            if current.position < self._last[0]:
                self.outcome.problems.append(f"position {current.position} after {self._last[0]}")
            self.outcome.snapshots_seen += current.identity != self._last[1]
            self._last = (current.position, current.identity)
            for item in current.objects:
                for _ in pages_of(mirror.pages, item):
                    pass
            assert mirror.log is not None
            for name in body_names(mirror.pages, None, current):
                mirror.log.stored_body(name)
        except NotFound as error:
            if self._last[1]:
                self.outcome.problems.append(f"there was a snapshot: {error}")
        except Exception as error:
            self.outcome.problems.append(f"the current snapshot is not whole: {error}")
        finally:
            mirror.close()

    def finish(self) -> None:
        """The last update, then the mirror takes over."""
        data = load(self.source.config).data_directory
        request(data, "mirror.push", {})
        expected = {user: sorted(fetch_at(self.source.imap, user)) for user in USERS}
        self.source.stop()
        self.mirror.stop()
        self.look()
        promote(self.kept)
        config = self.kept.parent / "after.yaml"
        listen = {"smtp": None, "lmtp": None, "imap": f"127.0.0.1:{self.source.imap[1]}"}
        config.write_text(config_text(self.kept.parent, users=USERS, listen=listen, data_directory=str(self.kept)))
        after = Server(config, self.source.smtp, self.source.imap)
        after.start()
        for user in USERS:
            found = sorted(fetch_at(after.imap, user))
            self.outcome.messages += len(found)
            if found != expected[user]:
                self.outcome.problems.append(f"{user}: {len(found)} messages, the source has {len(expected[user])}")
        after.stop()

    def end(self) -> None:
        for one in (self.source, self.mirror):
            if one.process is not None and one.process.poll() is None:
                one.kill()


def _processes(directory: Path, kept: Path) -> tuple[Server, Server]:
    smtp, imap, at = (("127.0.0.1", free_port()) for _ in range(3))
    for name in ("source", "standby"):
        (directory / name).mkdir()
    source, standby = directory / "source" / "spinrt.yaml", directory / "standby" / "spinrt.yaml"
    listen = {"smtp": f"{smtp[0]}:{smtp[1]}", "lmtp": None, "imap": f"{imap[0]}:{imap[1]}"}
    pinned = {name: directory / name / "mirror" / "certificate.pem" for name in ("source", "standby")}
    target = {"at": f"{at[0]}:{at[1]}", "certificate": str(pinned["standby"]), "interval": "0 s"}
    common = {"logging": {"level": "warning"}}
    source.write_text(
        config_text(source.parent, users=USERS, listen=listen, mirror={"targets": {"standby": target}}, **common)
    )
    kept_for = {"directory": str(kept), "certificate": str(pinned["source"])}
    standby.write_text(
        config_text(standby.parent, mirror={"listen": f"{at[0]}:{at[1]}", "sources": {"source": kept_for}}, **common)
    )
    for name, config in (("source", source), ("standby", standby)):
        pinned_pair(identity_directory(load(config)), name)
    return Server(source, smtp, imap), MirrorProcess(standby, smtp, at)


def run(directory: Path, *, kills: int, seed: int, clients: int = 3, tell: Callable[[int], None] = silent) -> Outcome:
    """Run a campaign below an empty directory."""
    campaign = Campaign(directory, seed)
    attempts, stopped = Attempts(), threading.Event()
    threads = [Client(name, campaign.source, attempts, seed, stopped) for name in range(clients)]
    try:
        campaign.mirror.start()
        campaign.source.start()
        for thread in threads:
            thread.start()
        for number in range(kills):
            tell(number)
            campaign.kill_one()
        stopped.set()
        for thread in threads:
            thread.join(START_TIMEOUT_S)
        campaign.finish()
    finally:
        stopped.set()
        campaign.end()
    return campaign.outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill source and mirror while updates go over.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="spinrt-mirror-") as directory:
        tell = teller(arguments.kills, "kills")
        outcome = run(Path(directory), kills=arguments.kills, seed=arguments.seed, tell=tell)
    print(outcome.text())
    for problem in outcome.problems:
        print(f"problem: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
