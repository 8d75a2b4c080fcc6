"""Logins through the throttle: a delay before, a count after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spinrt.mail.smtp import reply
from spinrt.mail.smtp.receiver import LoginDone, Receiver, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.throttle import Throttle


class ThrottledReceiver:
    """A `Receiver` whose logins are throttled; everything else goes straight through.

    Args:
        receiver: The real one.
        throttle: Counts by address and account.
        call_later: Of the event loop.
    """

    def __init__(self, receiver: Receiver, throttle: Throttle, call_later: Callable[..., Any]) -> None:
        self.check_sender = receiver.check_sender
        self.check_recipient = receiver.check_recipient
        self.begin = receiver.begin
        self.deliver = receiver.deliver
        self._receiver = receiver
        self._throttle = throttle
        self._call_later = call_later

    def authenticate(self, session: Session, user: str, password: str, done: LoginDone) -> None:
        """Refuse with 454, or ask the receiver, at once or after a delay."""
        throttle, peer = self._throttle, session.peer

        def judge(result: str | Reply | None) -> None:
            if isinstance(result, str):
                throttle.login_succeeded(peer, user)
            elif result is None:
                throttle.login_failed(peer, user)
            done(result)

        delay_s = throttle.login_allowed(peer, user)
        if delay_s is None:
            done(reply.LOGIN_LATER)
        elif delay_s:
            self._call_later(delay_s, self._receiver.authenticate, session, user, password, judge)
        else:
            self._receiver.authenticate(session, user, password, judge)
