"""What leaves: a redirect goes through the durable queue to the smarthost, with its mark, and the loop ends."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.guests import BUMP
from tests.mail.service_support import config_of, fetch, free_port, message, send, serving
from tests.mail.test_service_refusals import _HANDLER, DELIVERY, OUTBOUND, guest, with_guest

TARGET = "elsewhere@example.com"
REDIRECTING = (
    f'(import "{OUTBOUND}" "redirect" (func $redirect (param i32 i32 i32)))'
    f'(import "{DELIVERY}" "discard" (func $discard (param i32)))'
    f'{BUMP} (data (i32.const 64) "{TARGET}")'
    f"{_HANDLER} (call $redirect (i32.const 64) (i32.const {len(TARGET)}) (i32.const 128))"
    # A redirect that was refused (first byte: 1 for an error) keeps the message here.
    " (if (i32.eqz (i32.load8_u (i32.const 128))) (then (call $discard (i32.const 160)))) (i32.const 1))"
)


class Smarthost:
    """Takes everything and keeps it."""

    def __init__(self) -> None:
        self.taken: queue.Queue[Envelope] = queue.Queue()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken.put(envelope)
        return "250 taken"


@pytest.fixture
def smarthost() -> Iterator[tuple[Smarthost, int]]:
    handler, port = Smarthost(), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port, decode_data=False)
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()


def test_a_redirect_leaves_through_the_smarthost_and_ends_its_loop(
    tmp_path: Path, smarthost: tuple[Smarthost, int]
) -> None:
    """The smarthost gets the message as it came, below the marks; when it comes back it stays."""
    handler, port = smarthost
    path = guest(tmp_path, REDIRECTING, imports=(OUTBOUND, DELIVERY))
    config = config_of(
        tmp_path,
        extensions=with_guest(path, outbound={"addresses": ["*@example.com"]}, delivery={"functions": ["discard"]}),
        smarthost={"host": "127.0.0.1", "port": port, "security": "none"},
    )
    sent = message("forward me")
    with serving(config) as service:
        assert send(service, sent, "alice@example.org")[0].startswith("250")
        taken = handler.taken.get(timeout=20)
        content = taken.content if isinstance(taken.content, bytes) else b""
        assert (taken.mail_from, taken.rcpt_tos) == ("s@example.net", [TARGET])
        assert content.endswith(sent) and b"Delivered-To: alice@example.org\r\n" in content
        assert fetch(service, "alice") == []
        send(service, content, "alice@example.org")
        assert [body for body, _ in fetch(service, "alice")] == [content]
    assert handler.taken.empty()
