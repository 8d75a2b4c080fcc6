"""Extensions reloaded in a running server: what changed, no more, and the last good version of what is wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from spinrt.errors import StateError
from spinrt.mail.config import load
from spinrt.mail.extensions import load_extensions, make_runtime
from spinrt.mail.reload import Reloaded, Reloader
from spinrt.runtime.domain import Domain
from tests.guests import wat
from tests.mail.service_support import Dialogue, config_text, message
from tests.mail.test_service_process import Process


def write(directory: Path, version: str, *, module: bytes | None = None, handlers: tuple[str, ...] = ()) -> Path:
    """An extension called as its directory."""
    directory.mkdir(exist_ok=True)
    manifest = {
        "spinrt": 1,
        "name": directory.name,
        "version": version,
        "module": "m.wasm",
        "handlers": list(handlers),
    }
    (directory / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    (directory / "m.wasm").write_bytes(wat("(module)") if module is None else module)
    return directory


class Server:
    """As much of a server as reloading needs: a configuration file, a runtime and a reloader."""

    def __init__(self, place: Path, **extensions: Any) -> None:
        self.file = place / "spinrt.yaml"
        self.write(**extensions)
        self.runtime = make_runtime(hostname="h.test", has_smarthost=False).runtime
        configured = load(self.file).extensions
        load_extensions(self.runtime, configured)
        self.reloader = Reloader(self.runtime, configured)

    def write(self, **extensions: Any) -> None:
        self.file.write_text(yaml.safe_dump({"domains": ["example.org"], "extensions": extensions}, sort_keys=False))

    def reload(self) -> Reloaded:
        return self.reloader.apply(load(self.file).extensions)

    def domain(self, name: str) -> Domain:
        return self.runtime.domains[name]


def section(path: Path, **more: Any) -> dict[str, Any]:
    return {"path": str(path), **more}


def test_only_what_changed_is_touched(tmp_path: Path) -> None:
    """A new module, a new manifest, other settings; what lies somewhere else in the file is the same."""
    a, b, c, d = (write(tmp_path / name, "1.0.0") for name in ("a", "b", "c", "d"))
    server = Server(tmp_path, a=section(a), b=section(b), c=section(c), d=section(d))
    before = dict(server.runtime.domains)
    assert server.reload() == Reloaded(unchanged=["a", "b", "c", "d"])
    write(a, "1.1.0")
    write(b, "1.0.0", module=wat("(module (func))"))
    server.file.write_text("# a line more\n" + server.file.read_text())
    server.write(a=section(a), b=section(b), c=section(c, config={"level": 3}), d=section(d))
    assert server.reload() == Reloaded(replaced=["a", "b", "c"], unchanged=["d"])
    assert server.domain("a").extension.manifest.version == "1.1.0"
    assert server.domain("c").policy.config == {"level": "3"}
    assert server.domain("d") is before["d"]
    assert server.reload() == Reloaded(unchanged=["a", "b", "c", "d"])


def test_extensions_come_and_go(tmp_path: Path) -> None:
    """Added ones are loaded, removed and disabled ones are unloaded."""
    a, b, c = (write(tmp_path / name, "1.0.0") for name in ("a", "b", "c"))
    server = Server(tmp_path, a=section(a), b=section(b))
    server.write(b=section(b, enabled=False), c=section(c))
    assert server.reload() == Reloaded(loaded=["c"], unloaded=["b", "a"])
    assert list(server.runtime.domains) == ["c"]


@pytest.mark.parametrize(
    ("what", "says"),
    [("module", "module"), ("manifest", "manifest"), ("gone", "found no extension"), ("grant", "unknown interface"),
     ("event", "nobody defines")],
)  # fmt: skip
def test_what_fails_keeps_the_last_good_version(tmp_path: Path, what: str, says: str) -> None:
    """It is told, the others are reloaded all the same, and once it is right again it is taken."""
    a, b = write(tmp_path / "a", "1.0.0"), write(tmp_path / "b", "1.0.0")
    server = Server(tmp_path, a=section(a), b=section(b))
    old = server.domain("a")
    write(b, "2.0.0")
    wrong = section(a)
    if what == "module":
        (a / "m.wasm").write_bytes(b"\0asm but no module")
    elif what == "manifest":
        (a / "manifest.yaml").write_text("spinrt: 7")
    elif what == "gone":
        wrong = section(tmp_path / "nowhere")
    elif what == "grant":
        wrong = section(a, grants={"spinrt:mail/massage@1.0.0": {}})
    else:
        name = "spinrt:extension/lifecycle@1.0.0#init"
        write(a, "2.0.0", module=wat(f'(module (func (export "{name}") (result i32) (i32.const 0)))'), handlers=(name,))
    server.write(a=wrong, b=section(b))
    done = server.reload()
    assert (done.replaced, list(done.failed)) == (["b"], ["a"])
    assert says in done.failed["a"]
    assert server.domain("a") is old
    assert server.reload().failed == done.failed
    write(a, "3.0.0")
    server.write(a=section(a), b=section(b))
    assert server.reload() == Reloaded(replaced=["a"], unchanged=["b"])


def test_a_version_that_gave_its_place_back_is_told_until_it_changes(tmp_path: Path) -> None:
    """What is configured is not what runs: no reload calls that unchanged."""
    a = write(tmp_path / "a", "1.0.0")
    server = Server(tmp_path, a=section(a))
    write(a, "2.0.0")
    assert server.reload() == Reloaded(replaced=["a"])
    for _ in range(3):
        server.domain("a").supervisor.note_fault(server.runtime.monotonic_s())
    assert server.domain("a").extension.manifest.version == "1.0.0"
    for _ in range(2):
        done = server.reload()
        assert (done.unchanged, done.replaced) == ([], [])
        assert done.failed["a"].startswith("2.0.0 was returned to 1.0.0 after 3 faults, at 2")
        assert done.failed["a"].endswith("; change it to have it tried again")
    write(a, "3.0.0")
    assert server.reload() == Reloaded(replaced=["a"])
    assert server.reload() == Reloaded(unchanged=["a"])


def test_exporter_in_use_stays_when_it_is_removed(tmp_path: Path) -> None:
    """Its importer would stop; the reload says who it is and goes on with the rest."""
    a, b = write(tmp_path / "a", "1.0.0"), write(tmp_path / "b", "1.0.0")
    server = Server(tmp_path, a=section(a), b=section(b))

    def refuse() -> None:
        raise StateError("domain a: found its exports in use by x")

    server.domain("a").check_unused = refuse  # type: ignore[method-assign]
    server.write()
    done = server.reload()
    assert (done.unloaded, list(done.failed)) == (["b"], ["a"])
    assert list(server.runtime.domains) == ["a"]


def run_cli(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spinrt", *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_running_server_takes_changed_extensions(tmp_path: Path) -> None:
    """By `spinrt reload` and by SIGHUP; mail goes on; exit codes and log tell what was not reloaded."""
    directory = write(tmp_path / "quiet", "1.0.0")
    config = tmp_path / "spinrt.yaml"
    config.write_text(config_text(tmp_path, extensions={"quiet": section(directory)}))
    assert run_cli(config, "reload").returncode == 1
    server = Process(config)
    try:
        server.wait_for(r" ready ")
        assert "nothing changed" in run_cli(config, "reload").stdout
        write(directory, "1.1.0")
        done = run_cli(config, "reload", "--json")
        assert (done.returncode, json.loads(done.stdout)["replaced"]) == (0, ["quiet"])
        (directory / "m.wasm").write_bytes(b"nonsense")
        done = run_cli(config, "reload")
        assert done.returncode == 1
        assert re.search(r"not reloaded: quiet: .*; version 1\.1\.0 goes on$", done.stderr.strip())
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(r" reloaded accounts=\d+ extensions=0 failed=1$")
        write(directory, "1.2.0")
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for(r" replaced extension=quiet version=1\.2\.0")
        with Dialogue(server.port("smtp")) as peer:
            assert peer.begin("alice@example.org")[0].startswith("250")
            assert peer.data(message())[0].startswith("250")
        config.write_text("nonsense: 1\n")
        assert run_cli(config, "reload").returncode == 2
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    finally:
        server.process.kill()
