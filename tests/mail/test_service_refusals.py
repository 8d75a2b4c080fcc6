"""What is not taken: strangers, relaying, faults of extensions, full disks; and what a refusal leaves behind."""

from __future__ import annotations

import asyncio
import base64
import errno
from pathlib import Path

import pytest
import yaml

from spinrt.errors import Busy, ConfigError, DataLocked, DeviceFull, LinkDenied, LinkError, UnresolvedImport
from spinrt.mail.service import MailService
from spinrt.mail.store.model import Change, Outcome
from tests.guests import BUMP, wat
from tests.mail.service_support import PASSWORD, Dialogue, Running, config_of, fetch, message, send, serving, shipped

DELIVER = "spinrt:mail/delivery-events@1.0.0#deliver"
KV = "spinrt:kv/store@1.0.0"
DELIVERY = "spinrt:mail/delivery@1.0.0"
OUTBOUND = "spinrt:mail/outbound@1.0.0"
_HANDLER = f'(func (export "{DELIVER}") (param i32) (result i32)'
# The event's arguments do not fit into registers: the guest gets a pointer to them. A verdict is 0, 1 or 2.


def guest(directory: Path, body: str, *, name: str = "guest", imports: tuple[str, ...] = (), order: int = 50) -> Path:
    """Write an extension that handles ``deliver``; ``body`` is its module's text."""
    target = directory / name
    target.mkdir()
    manifest = {
        "spinrt": 1,
        "name": name,
        "version": "1.0.0",
        "module": "guest.wasm",
        "imports": list(imports),
        "handlers": [{"event": DELIVER, "order": order}],
    }
    (target / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    (target / "guest.wasm").write_bytes(wat(f"(module {body})"))
    return target


def writing(key: str, then: str) -> str:
    """A guest that writes one key of its map, and then does something else."""
    return (
        f'(import "{KV}" "set" (func $set (param i32 i32 i32 i32 i32)))'
        f'{BUMP} (data (i32.const 64) "{key}")'
        f"{_HANDLER} (call $set (i32.const 64) (i32.const {len(key)})"
        f" (i32.const 64) (i32.const 1) (i32.const 96)) {then})"
    )


def with_guest(path: Path, **grants: object) -> dict[str, object]:
    """The shipped extensions and one of a test."""
    given = {{"kv": KV, "delivery": DELIVERY, "outbound": OUTBOUND}[key]: value for key, value in grants.items()}
    return {**shipped(), path.name: {"path": str(path), "grants": given}}


# ------------------------------------------------------------------------------------------------------- recipients


def test_strangers_and_other_domains_are_refused_at_rcpt(tmp_path: Path) -> None:
    """Unknown users and domains that are not ours get a clear code, and known ones still get mail."""
    with serving(config_of(tmp_path)) as service, Dialogue(service.address("smtp")) as peer:
        answers = peer.begin(
            "nobody@example.org", "a@example.com", "alice%example.com@example.org", "alice@example.org"
        )
        assert [answer[:9] for answer in answers] == ["550 5.1.1", "550 5.7.1", "550 5.1.1", "250 2.1.5"]
        assert peer.data(message())[0].startswith("250")
        assert len(fetch(service, "alice")) == 1


def _login(peer: Dialogue, user: str) -> str:
    secret = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
    return peer.say(f"AUTH PLAIN {secret}")


def test_a_login_does_not_open_a_relay(tmp_path: Path) -> None:
    """Who logged in may write to users here under own addresses; nobody relays."""
    with serving(config_of(tmp_path)) as service, Dialogue(service.address("smtp")) as peer:
        assert _login(peer, "alice").startswith("235")
        assert peer.say("MAIL FROM:<bob@example.org>").startswith("553 5.7.1")
        answers = peer.begin("a@example.com", "bob@example.org", sender="alice@example.org")
        assert [answer[:9] for answer in answers] == ["550 5.7.1", "250 2.1.5"]
        assert peer.data(message())[0].startswith("250")
        assert len(fetch(service, "bob")) == 1


def test_submission_needs_a_login(tmp_path: Path) -> None:
    """A submission listener takes nothing from those who did not log in."""
    listen = {"smtp": None, "lmtp": None, "imap": "127.0.0.1:0", "submission": "127.0.0.1:0"}
    with serving(config_of(tmp_path, listen=listen)) as service, Dialogue(service.address("submission")) as peer:
        assert peer.say("MAIL FROM:<alice@example.org>").startswith("530 5.7.0")
        assert _login(peer, "alice").startswith("235")
        peer.begin("bob@example.org", sender="alice@example.org")
        assert peer.data(message())[0].startswith("250")


# ----------------------------------------------------------------------------------------------------------- faults


def test_a_faulting_extension_defers_and_nothing_is_stored(tmp_path: Path) -> None:
    """A trap answers 451; the map writes before it are gone; the next transaction finds it as it was."""
    extensions = with_guest(guest(tmp_path, writing("k", "unreachable"), imports=(KV,)), kv={})
    with serving(config_of(tmp_path, extensions=extensions)) as service:
        for _ in range(2):
            assert send(service, message(), "alice@example.org")[0].startswith("451 4.3.0")
            assert service.service.mail.runtime.domains["guest"].counters.restarts == 0
        assert fetch(service, "alice") == []
        assert service.service.mail.spaces.space("guest").values == {}
        assert service.service.store.kv_load("guest") == {}


def test_a_fault_over_lmtp_concerns_one_recipient(tmp_path: Path) -> None:
    """Over LMTP the recipient whose handler failed is deferred; others are stored."""
    trap_for_second = (
        f"{BUMP} (global $seen (mut i32) (i32.const 0))"
        f"{_HANDLER} (if (global.get $seen) (then unreachable)) (global.set $seen (i32.const 1)) (i32.const 0))"
    )
    extensions = with_guest(guest(tmp_path, trap_for_second))
    with serving(config_of(tmp_path, extensions=extensions)) as service:
        answers = send(service, message(), "alice@example.org", "bob@example.org", protocol="lmtp")
        assert [answer[:9] for answer in answers] == ["250 2.6.0", "451 4.3.0"]
        assert (len(fetch(service, "alice")), len(fetch(service, "bob"))) == (1, 0)


def test_an_endless_loop_ends_at_its_deadline(tmp_path: Path) -> None:
    """A guest that never returns costs its deadline and answers 451."""
    extensions = with_guest(guest(tmp_path, f"{BUMP} {_HANDLER} (loop $l (br $l)) (i32.const 0))"))
    with serving(config_of(tmp_path, extensions=extensions)) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("451 4.3.0")


def test_a_deferral_answers_451_and_keeps_map_writes(tmp_path: Path) -> None:
    """Deferring is a result: the counter that greylisting needs is stored, the message is not."""
    config = config_of(
        tmp_path, extensions=with_guest(guest(tmp_path, writing("seen", "(i32.const 2)"), imports=(KV,)), kv={})
    )
    with serving(config) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("451 4.7.1")
        assert fetch(service, "alice") == []
    with serving(config) as service:
        assert service.service.mail.spaces.space("guest").values == {"seen": b"s"}


def test_map_writes_of_a_delivery_are_in_its_record(tmp_path: Path) -> None:
    """What an extension wrote while mail was taken is there after a restart."""
    path = guest(tmp_path, writing("seen", "(i32.const 0)"), imports=(KV,))
    config = config_of(tmp_path, extensions=with_guest(path, kv={}))
    with serving(config) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("250")
    with serving(config) as service:
        assert service.service.store.kv_load("guest") == {"seen": b"s"}
        assert service.service.mail.spaces.space("guest").values == {"seen": b"s"}


def test_a_full_device_defers_and_takes_map_writes_back(tmp_path: Path) -> None:
    """When a record is lost to a full device the answer is 452 4.3.1, and memory is what the store holds."""
    path = guest(tmp_path, writing("seen", "(i32.const 0)"), imports=(KV,))
    with serving(config_of(tmp_path, extensions=with_guest(path, kv={}))) as service:
        _fail_submits(service)
        assert send(service, message(), "alice@example.org")[0].startswith("452 4.3.1")
        assert service.service.mail.spaces.space("guest").values == {}


def _fail_submits(service: Running) -> None:
    """From now on changes are appended, and then lost."""

    def submit(change: Change) -> asyncio.Future[Outcome]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        loop.call_later(0.01, future.set_exception, DeviceFull("log: no room"))
        return future

    service.service.store.submit = submit  # type: ignore[method-assign]


# --------------------------------------------------------------------------------------------------- policy at work


def test_a_mailbox_outside_of_the_grant_is_not_filed_into(tmp_path: Path) -> None:
    """With ``INBOX/lists/*`` alone, other mailboxes stay out of reach and the message goes to INBOX."""
    rules = "detail exists -> file '${detail}'; stop\nlist exists -> file 'INBOX/lists/${list}'"
    extensions = shipped(rules)
    extensions["delivery"]["grants"][DELIVERY] = {"mailboxes": ["INBOX/lists/*"]}  # type: ignore[index]
    with serving(config_of(tmp_path, extensions=extensions)) as service:
        send(service, message(), "alice+Trash@example.org")
        send(service, message("l", "List-Id: <dev.example.net>"), "alice@example.org")
        assert (len(fetch(service, "alice")), len(fetch(service, "alice", "Trash"))) == (1, 0)
        assert len(fetch(service, "alice", "INBOX/lists/dev")) == 1


def test_effects_beyond_the_limit_are_refused_one_by_one(tmp_path: Path) -> None:
    """With ``limits.effects`` used up a call answers too-many; what was promised before it stands."""
    body = (
        f'(import "{DELIVERY}" "file-into" (func $file (param i32 i32 i32))) {BUMP} (data (i32.const 64) "AB")'
        f"{_HANDLER} (call $file (i32.const 64) (i32.const 1) (i32.const 128))"
        " (call $file (i32.const 65) (i32.const 1) (i32.const 160))"
        # An error (1) of the problem too-many (3), or the guest traps.
        " (if (i32.ne (i32.load16_u (i32.const 160)) (i32.const 0x0301)) (then unreachable)) (i32.const 1))"
    )
    extensions = with_guest(guest(tmp_path, body, imports=(DELIVERY,)), delivery={})
    extensions["guest"]["limits"] = {"effects": 1}  # type: ignore[index]
    with serving(config_of(tmp_path, extensions=extensions)) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("250")
        assert service.reports[0].placed == (("alice", "A", 1),)


def _start(config: object) -> None:
    async def start() -> None:
        service = MailService(config)  # type: ignore[arg-type]
        await service.start()
        await service.stop(0.0)

    asyncio.run(start())


def test_what_is_not_granted_does_not_start(tmp_path: Path) -> None:
    """All missing grants are named with the lines that would give them; the data directory is free again."""
    extensions = {"delivery": {"grants": {"spinrt:mail/message@1.0.0": {}}}}
    with pytest.raises(LinkDenied, match=r"extension/config.*mail/delivery") as caught:
        _start(config_of(tmp_path, extensions=extensions))
    assert "extensions.delivery.grants" in str(caught.value)
    _start(config_of(tmp_path))


def test_without_a_smarthost_nothing_that_leaves_links(tmp_path: Path) -> None:
    """A granted redirect does not link where there is nowhere to send it, and the error says why."""
    body = f'(import "{OUTBOUND}" "redirect" (func (param i32 i32 i32))) {BUMP} {_HANDLER} (i32.const 0))'
    path = guest(tmp_path, body, imports=(OUTBOUND,))
    with pytest.raises(UnresolvedImport) as caught:
        _start(config_of(tmp_path, extensions=with_guest(path, outbound={})))
    assert "no smarthost is configured" in caught.value.hint


@pytest.mark.parametrize(
    ("extensions", "expected", "text"),
    [
        ({"nobody": {}}, ConfigError, "found no extension"),
        ({"delivery": {**shipped()["delivery"], "config": {"rules": "nonsense"}}}, LinkError, "init refused"),  # type: ignore[dict-item]
    ],
)
def test_mistakes_with_extensions_are_one_clear_error(
    tmp_path: Path, extensions: dict[str, object], expected: type[Exception], text: str
) -> None:
    """An extension that does not exist, or that refuses its configuration, keeps the service from starting."""
    with pytest.raises(expected, match=text):
        _start(config_of(tmp_path, extensions=extensions))


def test_a_port_in_use_and_a_locked_directory_are_clear_errors(tmp_path: Path) -> None:
    """Both name the object; nothing is left open behind either."""
    config = config_of(tmp_path)
    with serving(config) as service:
        with pytest.raises(DataLocked):
            _start(config)
        host, port = service.address("smtp")
        other = tmp_path / "other"
        other.mkdir()
        listen = {"smtp": f"{host}:{port}", "lmtp": None, "imap": None}
        with pytest.raises(Busy, match=f"{port}") as caught:
            _start(config_of(other, listen=listen))
        assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.EADDRINUSE
    _start(config_of(other))
