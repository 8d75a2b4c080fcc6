"""The same octets give the same answers and the same messages, however they are cut and whenever answers come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import Phase
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.receiver import Session
from tests.mail.smtp.doubles import FakeReceiver, Peer, codes
from tests.mail.smtp.sessions import LMTP_SESSIONS, SESSIONS

LIMITS = SmtpLimits(message_bytes_max=100, discard_bytes_max=200, hops_max=3, line_bytes_max=512)
ALL = [(name, octets, False) for name, octets in SESSIONS.items()]
ALL += [(name, octets, True) for name, octets in LMTP_SESSIONS.items()]


def run(pieces: list[bytes], *, lmtp: bool, late: bool) -> tuple[object, ...]:
    """Feed the pieces; everything that can be seen from outside."""
    receiver = FakeReceiver(refused=["no@y.test"], late=late)
    session = Session(protocol="lmtp" if lmtp else "smtp", peer="127.0.0.1", local=True)
    peer = Peer(receiver, lmtp=lmtp, starttls=True, session=session, limits=LIMITS)
    output = b""
    for piece in pieces:
        output += peer.say(piece)
        while receiver.waiting:
            receiver.answer()
            output += peer.engine.take_output()
    phase = peer.engine.phase
    peer.engine.lost()
    assert receiver.open_sinks == 0
    return output, receiver.delivered, receiver.logins, phase, session.helo, session.user


@pytest.mark.parametrize(("name", "octets", "lmtp"), ALL, ids=[name for name, _, _ in ALL])
def test_octet_by_octet_is_as_whole(name: str, octets: bytes, lmtp: bool) -> None:
    """Nothing depends on where the octets were cut, or on when the receiver answered."""
    whole = run([octets], lmtp=lmtp, late=False)
    single = [octets[i : i + 1] for i in range(len(octets))]
    assert run(single, lmtp=lmtp, late=False) == whole
    assert run([octets], lmtp=lmtp, late=True) == whole
    assert run(single, lmtp=lmtp, late=True) == whole
    assert codes(whole[0])  # type: ignore[arg-type]


@given(st.sampled_from(ALL), st.data(), st.booleans())
def test_any_cut_is_as_whole(case: tuple[str, bytes, bool], data: st.DataObject, late: bool) -> None:
    """Cuts anywhere, any number of them."""
    _, octets, lmtp = case
    cuts = sorted(data.draw(st.sets(st.integers(0, len(octets)), max_size=12)))
    edges = [0, *cuts, len(octets)]
    pieces = [octets[start:end] for start, end in pairwise(edges)]
    assert run(pieces, lmtp=lmtp, late=late) == run([octets], lmtp=lmtp, late=False)


def test_sessions_reach_what_they_are_for() -> None:
    """The sessions are not all refused at their first line."""
    outcomes = {name: run([octets], lmtp=lmtp, late=False) for name, octets, lmtp in ALL}
    delivered = {name: len(outcome[1]) for name, outcome in outcomes.items()}  # type: ignore[arg-type]
    assert [delivered[name] for name in ("simple", "two", "parameters", "chunks", "refused", "lmtp")] == [
        1,
        2,
        1,
        1,
        1,
        2,
    ]
    assert outcomes["starttls"][3] is Phase.TLS
    assert outcomes["login"][5] == outcomes["login in steps"][5] == "user"
    assert [outcomes[name][3] for name in ("too many errors", "far too large", "small commands")] == [Phase.CLOSED] * 3
