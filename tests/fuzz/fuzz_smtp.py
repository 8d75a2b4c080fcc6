"""Invariant: octets in any cut give the same replies and messages; every reply is well-formed; no sink stays open.

With atheris: ``python tests/fuzz/fuzz_smtp.py tests/fuzz/seeds/smtp``. ``test_fuzz_smtp.py`` replays the seeds alone.
An input is one octet of options (1: LMTP, 2: late answers, 4: TLS is on, 8: normalise newlines) and one that sets the
cuts, then the session.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from spinrt._core import Phase  # noqa: E402
from spinrt.mail.smtp.limits import SmtpLimits  # noqa: E402
from spinrt.mail.smtp.receiver import Session  # noqa: E402
from tests.mail.smtp.doubles import FakeReceiver, Peer, codes  # noqa: E402

LMTP, LATE, TLS, NORMALISE = 1, 2, 4, 8


def check(data: bytes) -> None:
    """Run one input whole and cut, and compare. AssertionError when the invariant does not hold."""
    if len(data) < 2:
        return
    options, seed, octets = data[0], data[1], data[2:]
    whole = _run([octets], options)
    assert _run(_cut(octets, seed), options) == whole
    assert _run([octets], options ^ LATE) == whole


def _run(pieces: list[bytes], options: int) -> tuple[object, ...]:
    receiver = FakeReceiver(refused=["no@y.test"], late=bool(options & LATE))
    lmtp = bool(options & LMTP)
    session = Session(protocol="lmtp" if lmtp else "smtp", peer="192.0.2.1", tls=bool(options & TLS))
    limits = SmtpLimits(
        message_bytes_max=200,
        discard_bytes_max=400,
        hops_max=3,
        line_bytes_max=512,
        recipients_max=3,
        normalise_newlines=bool(options & NORMALISE),
    )
    peer = Peer(receiver, lmtp=lmtp, starttls=not session.tls, session=session, limits=limits)
    output = b""
    for piece in pieces:
        output += peer.say(piece)
        while receiver.waiting:
            receiver.answer()
            output += peer.engine.take_output()
    codes(output)
    assert b"421 4.3.0" not in output, "the engine failed"
    assert peer.engine.phase is not Phase.CLOSED or peer.engine.buffered == 0
    phase = peer.engine.phase
    peer.engine.lost()
    assert receiver.open_sinks == 0
    return output, receiver.delivered, receiver.logins, phase


def _cut(octets: bytes, seed: int) -> list[bytes]:
    """Cut at random places, by a seed; seed 0 gives single octets."""
    if seed == 0:
        return [octets[index : index + 1] for index in range(len(octets))]
    choices, pieces, start = random.Random(seed), list[bytes](), 0
    while start < len(octets):
        end = start + choices.randint(1, 40)
        pieces.append(octets[start:end])
        start = end
    return pieces


def main() -> None:
    """Fuzz with atheris."""
    try:
        import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        sys.exit("fuzz_smtp: atheris is not installed (pip install atheris)")
    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
