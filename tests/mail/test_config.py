"""The configuration: what is read, and the one line that every mistake gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import ConfigError
from spinrt.mail import config_values as values
from spinrt.mail.config import Config, load, parse
from spinrt.mail.config_reader import DEPTH_MAX
from spinrt.mail.config_show import as_mapping, show
from spinrt.mail.config_values import TcpEndpoint, UnixEndpoint, format_duration, format_size

EXAMPLE = Path(__file__).parents[2] / "docs" / "operating" / "spinrt.example.yaml"
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$qsuAQOd0MDWgA9vSIrtPCKHqZ/eTW9pVPFGsDVGMB+I"
FILE = Path("/etc/spinrt/spinrt.yaml")


def read(text: str) -> Config:
    return parse(text, FILE)


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    line = caught.value.line()
    assert "\n" not in line
    return line


def test_empty_file_is_all_defaults() -> None:
    """Nothing configured: loopback only, TLS with an own certificate, no accounts, no extensions."""
    config = read("")

    assert config.data_directory == Path("/etc/spinrt/data")
    assert all(endpoint.is_local for _, endpoint in config.listen.services())
    assert [name for name, _ in config.listen.services()] == ["smtp", "lmtp", "imap"]
    assert config.tls.enabled
    assert not config.accounts
    assert not config.extensions
    assert config.smarthost is None


def test_everything_is_read() -> None:
    """A value of each kind ends up typed, with its unit resolved."""
    config = read(
        f"""
        data_directory: /var/lib/spinrt
        domains: [Example.ORG, bücher.example]
        listen: {{smtp: "[::1]:25", lmtp: unix:lmtp.sock, imap: null}}
        accounts:
          alice: {{password_hash: "{HASH}", addresses: [Sales@example.org], catch_all: true}}
        smtp: {{message_bytes_max: 1.5 MiB, data_timeout: 90 s}}
        lmtp: {{bare_newlines: normalise}}
        throttle: {{connects_per_s: 2.5, exempt_local: false}}
        queue: {{delay_max: 2 h}}
        smarthost: {{host: relay.example, security: tls, user: u, password_file: pw}}
        extensions:
          delivery:
            order: -3
            grants: {{"spinrt:mail/delivery@1.0.0": {{mailboxes: [INBOX]}}}}
            limits: {{deadline_ms: 7}}
            config: {{rules: [one, two], number: 3, on: true}}
        logging: {{format: json, level: debug}}
        drain_timeout: 1 min
        """
    )

    assert config.domains == ("example.org", "xn--bcher-kva.example")
    assert config.listen.smtp == TcpEndpoint("::1", 25)
    assert config.listen.lmtp == UnixEndpoint(Path("/etc/spinrt/lmtp.sock"))
    assert config.listen.imap is None
    assert [str(address) for address in config.accounts["alice"].addresses] == ["sales@example.org"]
    assert (config.smtp.message_bytes_max, config.smtp.data_timeout_s) == (1572864, 90.0)
    assert config.lmtp.message_bytes_max == 1572864
    assert config.lmtp.normalise_newlines
    assert not config.smtp.normalise_newlines
    assert config.throttle.connects_per_s == 2.5
    assert config.queue.delay_s_max == 7200.0
    assert config.smarthost is not None
    assert config.smarthost.port == 465
    policy = config.extensions["delivery"].policy
    assert policy.grants["spinrt:mail/delivery@1.0.0"].attenuations == {"mailboxes": ["INBOX"]}
    assert policy.limits.deadline_ms == 7
    assert policy.config == {"rules": "one\ntwo", "number": "3", "on": "true"}
    assert config.extensions["delivery"].order == -3
    assert config.drain_timeout_s == 60.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smpt: {}", ":1: smpt: unknown key 'smpt' (did you mean 'smtp'?)"),
        ("smtp:\n  recipient_max: 3", ":2: smtp.recipient_max: unknown key"),
        ("imap:\n  zzz: 3", "keys here: line_bytes_max,"),
        ("domains: example.org", ":1: domains: found text 'example.org', expected a list"),
        ("domains: [a b]", "domains[0]: found text 'a b', expected a mail domain"),
        ("hostname: 7", "hostname: found an integer '7', expected text"),
        ("smtp: {message_bytes_max: 5 parsecs}", "found text '5 parsecs', expected a size from 1 B"),
        ("smtp: {message_bytes_max: 3 GiB}", "expected a size from 1 B to 2147483647 B"),
        ("smtp: {message_bytes_max: [1]}", "message_bytes_max: found a list, expected a size"),
        ("smtp: {data_timeout: 30}", "expected a time from 1 ms to 366 d"),
        ("smtp: {data_timeout: 0 s}", "expected a time"),
        ("smtp: {recipients_max: 0}", "expected a whole number from 1"),
        ("smtp: {recipients_max: 1_0}", "expected a whole number from 1"),
        ("smtp: {bare_newlines: fix}", "expected one of refuse, normalise"),
        ("smtp: {line_bytes_max: 100}", "expected at least 512"),
        ("smtp: 5", ":1: smtp: found an integer '5', expected a mapping"),
        ("listen: {smtp: 2525}", "listen.smtp: found an integer '2525', expected host:port"),
        ("listen: {smtp: 'a:99999'}", "expected host:port"),
        ("listen: {smtp: '::1:25'}", "expected host:port"),
        ("listen: {imap: unix:imap.sock}", "listen.imap: found text 'unix:imap.sock', expected host:port"),
        ("listen: {imap: 127.0.0.1:2525}", "listen.imap: 127.0.0.1:2525 is taken by listen.smtp"),
        ("listen: {imaps: 127.0.0.1:993}\ntls: {self_signed: false}", "listen.imaps: needs TLS"),
        ("tls: {key: k.pem}", "'certificate' is missing"),
        ("postmaster: bob", "postmaster: there is no account 'bob'"),
        ("accounts: {bob: {}}", "accounts.bob: the key 'password_hash' is missing"),
        ("accounts: {Bob: {}}", "found 'Bob', expected a name of lower-case letters"),
        (f"accounts: {{bob: {{password_hash: '{HASH}', addresses: [bob@else.test]}}}}", "one of the domains localhost"),
        (f"accounts: {{bob: {{password_hash: '{HASH}', addresses: []}}}}", "expected at least one address"),
        (f"accounts: {{bob@x.test: {{password_hash: '{HASH}'}}}}", "the name is at none of localhost"),
        ("smarthost: {port: 25}", "smarthost: the key 'host' is missing"),
        ("smarthost: {host: h, user: u}", "user and password_file come together"),
        ("smarthost: {host: h, security: none, user: u, password_file: p}", "would go in the clear"),
        ("extensions:\n  d:\n    grants:\n      x: {}\n      y: 3", ":5: extensions.d.grants.y: found 3"),
        ("extensions:\n  d:\n    limits:\n      fuel: 3", "extensions.d.limits: found 'fuel'"),
        ("extensions: {d: {config: {rules: {a: 1}}}}", "config.rules: found a mapping, expected text"),
        ("event_loop: trio", "expected one of auto, asyncio, uvloop"),
        ("a: &x 1\nb: *x", ":2: not YAML: aliases"),
        ("smtp: {}\nsmtp: {}", ":2: smtp: found the key a second time"),
        ("- a", "file: found a list, expected a mapping"),
        ("a: [", "not YAML"),
        ("? [a]\n: b", "expected a name as key"),
        ("domains: !!python/object:os.system [a]", "domains"),
        ("a: " + "[" * (DEPTH_MAX + 1), f"nested more than {DEPTH_MAX} levels"),
    ],
)  # fmt: skip
def test_mistake_is_one_line_that_says_where(text: str, expected: str) -> None:
    """Each names the file, and the text that helps is there."""
    line = complaint(text)

    assert expected in line
    assert str(FILE) in line or "SMTP limit" in line


def test_password_in_the_place_of_a_hash_is_not_repeated() -> None:
    """A password written by mistake does not end up in a log."""
    line = complaint("accounts: {bob: {password_hash: hunter2}}")

    assert "expected an argon2id hash" in line
    assert "hunter2" not in line


def test_accounts_that_clash_are_refused() -> None:
    """One address has one account, and one account catches all."""
    one = f"password_hash: '{HASH}', addresses: [x@localhost]"
    shared = complaint(f"accounts: {{a: {{{one}}}, b: {{{one}}}}}")
    two = f"password_hash: '{HASH}', catch_all: true"
    catching = complaint(f"accounts: {{a: {{{two}}}, b: {{{two}}}}}")

    assert "accounts.b: address x@localhost belongs to account 'a' already" in shared
    assert "account 'a' catches all already" in catching


def test_accounts_file_joins_and_may_not_repeat(tmp_path: Path) -> None:
    """Accounts come from both files; one that is in both is an error that names the place."""
    (tmp_path / "accounts.yaml").write_text(f"bob: {{password_hash: '{HASH}'}}\n")
    text = f"accounts: {{alice: {{password_hash: '{HASH}'}}}}"

    assert set(parse(text, tmp_path / "s.yaml").accounts) == {"alice", "bob"}
    with pytest.raises(ConfigError, match=r"accounts.yaml:1: bob: account 'bob' is in .*s.yaml already"):
        parse(text.replace("alice", "bob"), tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: \xff", "1: found a byte that is not UTF-8"),
        (b"#" * (1 << 20) + b"#", "more than 1048576 bytes"),
        (b"a: \x01", "not YAML"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=expected):
        load(path)


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        load(tmp_path / "none.yaml")
    assert "config init" in caught.value.hint


@given(st.text(max_size=200))
def test_any_text_gives_a_configuration_or_one_complaint(text: str) -> None:
    """No input ends in another exception."""
    try:
        read(text)
    except ConfigError as error:
        assert error.line()


def keys_of(mapping: Any, path: str = "") -> set[str]:
    if not isinstance(mapping, dict):
        return set()
    return {f"{path}{key}" for key in mapping} | {
        name for key, value in mapping.items() for name in keys_of(value, f"{path}{key}.")
    }


def test_example_is_complete_and_shows_the_defaults() -> None:
    """Every key is described in the example, and where it does not say otherwise it shows the default."""
    written = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    defaults = as_mapping(read(""))
    example = load(EXAMPLE)
    own = {"domains", "postmaster", "smarthost", "extensions", "accounts", "accounts_file", "data_directory", "tls"}

    expected = {key for key in keys_of(defaults) if not key.startswith("lmtp.")}
    assert expected <= keys_of(written)
    shown = as_mapping(example)
    assert {key: shown[key] for key in defaults if key not in own} == {
        key: value for key, value in defaults.items() if key not in own
    }


def test_show_reads_back_as_the_same(tmp_path: Path) -> None:
    """What is shown is a configuration again, the same but for accounts."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("\npostmaster: alice", "")
    config = parse(text, tmp_path / "s.yaml")

    again = parse(show(config), tmp_path / "s.yaml")

    assert as_mapping(again) == as_mapping(config)
    assert HASH not in show(config)
    assert "argon2" not in show(config)


@given(st.integers(1, 2**31 - 1))
def test_sizes_are_written_as_they_are_read(size_bytes: int) -> None:
    assert read(f"smtp: {{message_bytes_max: {format_size(size_bytes)}}}").smtp.message_bytes_max == size_bytes


@given(st.integers(1, 366 * 86_400_000))
def test_times_are_written_as_they_are_read(milliseconds: int) -> None:
    """To the millisecond."""
    text = format_duration(milliseconds / 1000)
    assert read(f"drain_timeout: {text}").drain_timeout_s == pytest.approx(milliseconds / 1000, abs=0.0005)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("::", False), ("a.test", False)],
)
def test_local_endpoints(host: str, local: bool) -> None:
    """What only this machine reaches."""
    assert TcpEndpoint(host, 1).is_local is local


def test_user_names() -> None:
    """What an account may be called."""
    assert all(map(values.is_user_name, ["a", "7", "a.b-c_d@e", "a" * 64]))
    assert not any(map(values.is_user_name, ["", "A", ".a", "a b", "a/b", "ä", "a" * 65]))
