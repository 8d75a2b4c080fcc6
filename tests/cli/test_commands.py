"""The subcommands that need no server: what they print, what they write, what they refuse."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import argon2
import pytest

from spinrt.cli import bench
from spinrt.cli.main import main
from spinrt.cli.serve import demo_lines
from spinrt.mail.config import load
from spinrt.mail.store.store import Store
from spinrt.mail.tls import server_context
from spinrt.storage.datadir import FORMAT_NAME
from tests.mail.store_support import deliver, with_store


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a configuration of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINRT_CONFIG", raising=False)
    monkeypatch.delenv("SPINRT_DEBUG", raising=False)
    assert main(["config", "init"]) == 0
    return tmp_path


def type_password(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def add(monkeypatch: pytest.MonkeyPatch, *arguments: str, password: str = "secret\n") -> int:
    type_password(monkeypatch, password)
    return main(["user", "add", "--password-stdin", *arguments])


def test_init_writes_what_loads_and_never_over_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first file is a good one; a second init leaves it as it is; a wrong domain writes nothing."""
    before = (place / "spinrt.yaml").read_text()

    assert load(place / "spinrt.yaml").domains == ("example.org",)
    assert main(["config", "init"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (place / "spinrt.yaml").read_text() == before
    assert main(["config", "init", "deep/other.yaml", "--domain", "a b"]) == 2
    assert not (place / "deep").exists()
    assert main(["config", "init", "deep/other.yaml", "--domain", "mail.test"]) == 0
    assert load(place / "deep" / "other.yaml").domains == ("mail.test",)


def test_init_grants_shipped_extensions_what_they_ask(place: Path) -> None:
    """Each extension that ships is there, with a grant for every import of its manifest."""
    from spinrt.cli.starter import SHIPPED
    from spinrt.sandbox.manifest import Manifest

    config = load(place / "spinrt.yaml")

    for path in SHIPPED.glob("*/manifest.yaml"):
        manifest = Manifest.read(path)
        assert config.extensions[manifest.name].policy.grants.keys() == {i.interface for i in manifest.imports}


def test_init_with_a_demo_account(place: Path) -> None:
    """The account can log in with the password that is shown."""
    assert main(["config", "init", "demo/s.yaml", "--demo-account"]) == 0

    account = load(place / "demo" / "s.yaml").accounts["demo"]
    assert argon2.PasswordHasher().verify(account.password_hash, "demo")
    assert (place / "demo" / "accounts.yaml").stat().st_mode & 0o777 == 0o600
    assert "postmaster@example.org" in map(str, account.addresses)


def test_init_says_how_to_go_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --config where the file would not be found by itself."""
    assert main(["config", "init", "a/b/c.yaml"]) == 0

    assert "`spinrt serve --config a/b/c.yaml`" in capsys.readouterr().out
    (place / "spinrt.yaml").unlink()
    assert main(["config", "init"]) == 0
    assert "`spinrt serve`" in capsys.readouterr().out


def test_serve_says_how_to_try_the_demo_account(place: Path) -> None:
    """Until its password is another one."""
    assert main(["config", "init", "demo/s.yaml", "--demo-account"]) == 0
    config = load(place / "demo" / "s.yaml")

    lines = demo_lines(config)

    assert "account 'demo', password 'demo', address demo@example.org" in lines[0]
    assert "smtp://127.0.0.1:2525" in lines[1] and "imap://127.0.0.1:2143/INBOX" in lines[2]
    changed = replace(config.accounts["demo"], password_hash=argon2.PasswordHasher().hash("another"))
    assert demo_lines(replace(config, accounts={"demo": changed})) == []
    assert demo_lines(load(place / "spinrt.yaml")) == []


def test_the_configuration_of_make_run_is_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below ./spinrt.yaml; without any, the complaint names --config."""
    (place / "spinrt.yaml").unlink()
    assert main(["config", "check"]) == 2
    assert "--config FILE" in capsys.readouterr().err

    assert main(["config", "init", "var/spinrt.yaml", "--demo-account"]) == 0
    assert main(["user", "list"]) == 0
    assert "demo@example.org" in capsys.readouterr().out


def test_check_tells_what_is_served_and_warns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Good is good; what is probably not meant is said; a mistake is code 2 with its line."""
    assert main(["config", "check"]) == 0
    out = capsys.readouterr().out
    assert "warning: there are no accounts" in out
    assert "good; serves smtp, lmtp, imap for example.org; 0 accounts" in out

    (place / "open.yaml").write_text("listen: {smtp: 0.0.0.0:25, lmtp: 0.0.0.0:24}\ntls: {self_signed: false}\n")
    assert main(["config", "check", "--config", "open.yaml"]) == 0
    out = capsys.readouterr().out
    assert "listen.smtp: 0.0.0.0:25 is reachable from outside without TLS" in out
    assert "LMTP is for trusted peers" in out

    (place / "bad.yaml").write_text("smtp:\n  recipient_max: 1\n")
    assert main(["config", "check", "--config", "bad.yaml"]) == 2
    assert capsys.readouterr().err == (
        "spinrt: config: bad.yaml:2: smtp.recipient_max: unknown key 'recipient_max' (did you mean 'recipients_max'?)\n"
    )


def test_configuration_is_found_by_option_then_variable_then_place(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "a.yaml").write_text("domains: [a.test]")
    (place / "b.yaml").write_text("domains: [b.test]")
    shown = []
    for arguments, variable in (([], None), ([], "b.yaml"), (["--config", "a.yaml"], "b.yaml")):
        if variable:
            monkeypatch.setenv("SPINRT_CONFIG", variable)
        assert main(["config", "show", *arguments]) == 0
        shown.append(capsys.readouterr().out.split("domains:\n- ")[1].split("\n")[0])

    assert shown == ["example.org", "b.test", "a.test"]


def test_user_add_list_passwd_remove(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The life of an account, and the operator's file is never written."""
    operators = (place / "spinrt.yaml").read_text()
    assert add(monkeypatch, "alice") == 0
    assert add(monkeypatch, "bob", "--address", "B@example.org", "--address", "sales@example.org", "--catch-all") == 0
    first = load(place / "spinrt.yaml").accounts["alice"].password_hash
    capsys.readouterr()

    assert main(["user", "list", "--json"]) == 0
    accounts = {account["name"]: account for account in json.loads(capsys.readouterr().out)}
    assert accounts["alice"]["addresses"] == ["alice@example.org"]
    assert accounts["bob"]["addresses"] == ["b@example.org", "sales@example.org"]
    assert accounts["bob"]["catch_all"]

    type_password(monkeypatch, "another\n")
    assert main(["user", "passwd", "alice", "--password-stdin"]) == 0
    second = load(place / "spinrt.yaml").accounts["alice"].password_hash
    assert first != second
    assert argon2.PasswordHasher().verify(second, "another")

    assert main(["user", "remove", "bob"]) == 0
    assert set(load(place / "spinrt.yaml").accounts) == {"alice"}
    assert (place / "spinrt.yaml").read_text() == operators
    assert [path.name for path in place.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "password", "code", "expected"),
    [
        (["alice"], "secret\n", 1, "is there already"),
        (["Bob"], "secret\n", 2, "lower-case letters"),
        (["bob"], "\n", 2, "a password has 1 to 1024 bytes"),
        (["bob"], "x" * 2000, 2, "a password has 1 to 1024 bytes"),
        (["bob", "--address", "bob"], "secret\n", 2, "write it as local@domain"),
        (["bob", "--address", "a b@example.org"], "secret\n", 2, "malformed"),
        (["bob", "--address", "bob@else.test"], "secret\n", 2, "expected one at example.org"),
        (["bob", "--address", "alice@example.org"], "secret\n", 2, "belongs to account 'alice' already"),
        (["bob@else.test"], "secret\n", 2, "is at none of example.org"),
    ],
)
def test_user_add_refuses_and_changes_nothing(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    password: str,
    code: int,
    expected: str,
) -> None:
    assert add(monkeypatch, "alice") == 0
    before = (place / "accounts.yaml").read_bytes()

    assert add(monkeypatch, *arguments, password=password) == code
    assert expected in capsys.readouterr().err
    assert (place / "accounts.yaml").read_bytes() == before


def test_user_leaves_the_operators_accounts_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An account in the configuration is listed with its place, and changed only by hand."""
    type_password(monkeypatch, "secret\n")
    assert main(["user", "hash", "--password-stdin"]) == 0
    stored = capsys.readouterr().out.split("wrote")[-1].strip().splitlines()[-1]
    with (place / "spinrt.yaml").open("a") as file:
        file.write(f'\naccounts: {{carol: {{password_hash: "{stored}"}}}}\n')

    assert main(["user", "list"]) == 0
    assert "spinrt.yaml" in capsys.readouterr().out
    assert main(["user", "remove", "carol"]) == 2
    assert "which only you edit" in capsys.readouterr().err
    assert main(["user", "remove", "nobody"]) == 1


def test_postmaster_is_not_removed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(monkeypatch, "alice") == 0
    with (place / "spinrt.yaml").open("a") as file:
        file.write("\npostmaster: alice\n")

    assert main(["user", "remove", "alice"]) == 2
    assert "is the postmaster" in capsys.readouterr().err
    assert load(place / "spinrt.yaml").postmaster == "alice"


def test_password_without_a_terminal_points_to_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_password(monkeypatch, "secret\n")

    assert main(["user", "add", "alice"]) == 2
    assert "use --password-stdin" in capsys.readouterr().err


def test_queue_and_backup_without_a_server(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They open the store themselves; before there is one they say so; a used target is left alone."""
    capsys.readouterr()
    assert main(["queue", "list"]) == 1
    assert "not there yet" in capsys.readouterr().err
    Store.open(place / "data").release()
    server_context(load(place / "spinrt.yaml"))

    assert main(["queue", "list"]) == 0
    assert capsys.readouterr().out == "the queue is empty\n"
    assert main(["queue", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["queue", "drop", "7"]) == 1
    assert "queue entry 7: does not exist" in capsys.readouterr().err
    assert main(["queue", "release", "--all"]) == 0
    assert capsys.readouterr().out == "release: 0 messages\n"
    assert main(["backup", "copy"]) == 0
    assert (place / "copy" / FORMAT_NAME).exists()
    for name, mode in (("certificate.pem", 0o644), ("key.pem", 0o600)):
        assert (place / "copy" / "tls" / name).read_bytes() == (place / "data" / "tls" / name).read_bytes()
        assert (place / "copy" / "tls" / name).stat().st_mode & 0o777 == mode
    assert main(["backup", "copy"]) == 1
    assert "not an empty directory" in capsys.readouterr().err


def test_backup_of_a_damaged_store_is_made_and_is_code_3(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The body of a message was changed where it lies: it is named on standard error, the copy is as the store is."""

    async def test(store: Store) -> None:
        for number in range(3):
            await deliver(store, b"Subject: kept\r\n\r\nmessage %d" % number, id_=f"id-{number}")

    with_store(place, test)
    (segment,) = (place / "data" / "log").glob("*.log")
    segment.write_bytes(segment.read_bytes().replace(b"message 1", b"massage 1"))
    capsys.readouterr()

    assert main(["backup", "copy"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"backed up to {place / 'copy'}")
    assert "body does not match its digest" in err
    assert "damaged in 1 place, and so is the copy" in err
    assert (place / "copy" / "log" / segment.name).read_bytes() == segment.read_bytes()
    assert main(["backup", "second", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["damaged"] == 1


def _massage(segment: Path) -> None:
    segment.write_bytes(segment.read_bytes().replace(b"message 1", b"massage 1"))


def _cut_off(segment: Path) -> None:
    os.truncate(segment, segment.read_bytes().index(b"message 1"))


@pytest.mark.parametrize(
    ("harm", "problem"), [(_massage, "body does not match its digest"), (_cut_off, "records were lost")]
)
def test_export_of_a_damaged_store_is_made_and_is_code_3(
    place: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None], problem: str
) -> None:
    """A body was changed, or the end of the log is gone: what is exported is named as damaged, as ``fsck`` finds it."""

    async def test(store: Store) -> None:
        for number in range(3):
            await deliver(store, b"Subject: kept\r\n\r\nmessage %d" % number, id_=f"id-{number}")
        await store.snapshot("then")

    with_store(place, test)
    assert main(["snapshot", "export", "then", "sound"]) == 0
    (segment,) = (place / "data" / "log").glob("*.log")
    harm(segment)
    capsys.readouterr()

    assert main(["snapshot", "export", "then", "copy"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith(f"exported to {place / 'copy'}")
    assert problem in err
    assert "and so is the copy" in err
    assert main(["fsck", "--data", "copy"]) == 3
    capsys.readouterr()
    assert main(["snapshot", "export", "then", "second", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["damaged"] >= 1


def test_locked_data_directory_is_code_4(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else holds it and does not answer."""
    store = Store.open(place / "data")
    try:
        assert main(["queue", "list"]) == 4
        assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    finally:
        store.release()


def test_bench_lists_finds_and_says_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Benchmarks are found in a checkout, run in a process of their own, and missed in an installed package."""
    package = tmp_path / "site" / "spinrt"
    benchmarks = tmp_path / "site" / "benchmarks"
    benchmarks.mkdir(parents=True)
    (benchmarks / "__init__.py").touch()
    (benchmarks / "bench_tiny.py").write_text("import sys; print(sys.argv[1:]); sys.exit(3)")
    monkeypatch.setattr(bench.spinrt, "__file__", str(package / "__init__.py"))
    capfd.readouterr()

    assert main(["bench", "tiny"]) == 2
    assert "not part of the installed package" in capfd.readouterr().err
    (benchmarks / "harness.py").touch()
    assert main(["bench"]) == 0
    assert capfd.readouterr().out == "tiny\n"
    assert main(["bench", "huge"]) == 2
    assert "there are tiny" in capfd.readouterr().err
    assert main(["bench", "tiny", "--quick", "--json"]) == 3
    assert capfd.readouterr().out == "['--quick', '--json']\n"
    assert main(["bench", "tiny", "--only", "a b=1", "--only", "c", "--mail", "here"]) == 3
    assert capfd.readouterr().out == "['--only', 'a b=1', '--only', 'c', '--mail', 'here']\n"


def test_bindgen_writes_header_and_glue(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From interface ids and from a manifest; a name that is neither says what was expected."""
    assert main(["bindgen", "spinrt:logging/logging@1.0.0", "--out", "out"]) == 0
    assert {path.name for path in (place / "out").iterdir()} == {"guest.h", "guest.c"}
    manifest = "spinrt: 1\nname: x\nversion: 1.0.0\nmodule: x.wasm\nimports: [{interface: spinrt:kv/store@1.0.0}]\n"
    (place / "x").mkdir()
    (place / "x" / "manifest.yaml").write_text(manifest)
    assert main(["bindgen", "x", "--out", "x"]) == 0
    assert "spinrt:kv/store@1.0.0" in (place / "x" / "guest.h").read_text()
    assert "spinrt:kv/store@1.0.0" not in (place / "out" / "guest.h").read_text()

    assert main(["bindgen", "nowhere"]) == 2
    assert "expected an interface id or the directory of an extension" in capsys.readouterr().err
    assert main(["bindgen", "spinrt:no/such@1.0.0"]) == 2
    assert "unknown interface" in capsys.readouterr().err
