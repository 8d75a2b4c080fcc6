"""Every form of the filter decides the same of the same message, and says so in the same header field."""

from __future__ import annotations

import http.client
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.filters import building, messages, postfix_fronts
from benchmarks.filters.aiosmtpd_server import FilteringHandler, function
from benchmarks.filters.library import BODY_BYTES_MAX, HEADER, NAMES, Library, Tally, parts_of
from benchmarks.mail.delivering import Delivering
from benchmarks.peers.process import HOST, PeerMissing, ServerProcess, free_port
from spinrt.mail.config import parse
from tests.benchmarks.milter_client import MilterClient

WORDS = set(
    re.findall(
        r"[a-z]+", re.findall(r"WORDS\[26\] = \{(.*?)\};", (building.DIRECTORY / "src/filter.c").read_text(), re.S)[0]
    )
)
SAMPLES = (
    b"From: Joe <joe@example.net>\r\nSubject: lunch?\r\nTo: bob@example.org\r\n\r\nAt noon.\r\n",
    b"SUBJECT: You have WON a prize\r\nX-Priority: 1 (Highest)\r\n\r\nClick here, act now. Free, free, free!\r\n",
    b"From: offers@example.net\r\nSubject: limited\r\n offer:\r\n\tcasino\r\nList-Id: <a.example>\r\n\r\nbuy\r\n",
    b"Subject: first\r\nSubject: won money prize\r\nX-Priority:  2\r\n\r\n" + b"buy " * 255 + b"cash cash\r\n",
    b"Subject : spaced money\r\nFrom: \xff\xfe money\r\n\r\n" + b"\xe4\xf6 free.money-free\r\n" * 500,
    b"To: a@example.org\r\n\r\n",
    b"Subject: " + b"m" * 900 + b"\r\n" + b" money" * 60 + b"\r\n money\r\n\r\nfreed prizes unfree\r\n",
)


def twin(fields: list[bytes | None], body: bytes) -> bytes:
    """The filter once more, as its description says."""
    sender, subject, list_id, priority = fields
    points = count(sender) + 2 * count(subject) + count(body[:BODY_BYTES_MAX])
    points += 2 * bool(re.match(rb"[ \t]*[12]", priority or b""))
    if list_id is not None:
        points = max(points - 3, 0)
    return b"%b %d" % (b"suspect" if points >= 3 else b"clean", points)


def count(text: bytes | None) -> int:
    return sum(word.decode().lower() in WORDS for word in re.findall(rb"[A-Za-z]+", (text or b"")[:1024]))


def fields_of(content: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """All fields as Postfix hands them to a milter (folded, line ends as LF, no blank in front), and the body."""
    head, _, body = content.partition(b"\r\n\r\n")
    lines = re.sub(rb"\r\n(?=[ \t])", b"\n", head).split(b"\r\n")
    return [
        (name.rstrip(), value.removeprefix(b" ")) for name, _, value in (line.partition(b":") for line in lines)
    ], body


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return building.library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def library(path: Path) -> Library:
    return Library(path)


@pytest.fixture(scope="module")
def answers(library: Library) -> list[bytes]:
    return [library.decide_content(content) for content in SAMPLES]


@contextmanager
def running(name: str, command: list[str], at: Path | int, directory: Path) -> Iterator[None]:
    knock = name in postfix_fronts.FORMS
    with ServerProcess(name, command, directory, [at], knock=knock):
        yield


WORD = st.sampled_from(sorted(word.encode() for word in WORDS)) | st.binary(max_size=8)
TEXT = st.lists(WORD, max_size=12).map(b" ".join)


@given(fields=st.lists(st.none() | TEXT.map(lambda text: text.replace(b"\0", b"")), min_size=4, max_size=4), body=TEXT)
def test_library_agrees_with_its_twin(library: Library, fields: list[bytes | None], body: bytes) -> None:
    """Whatever the fields and the body hold."""
    assert library.decide(fields, body) == twin(fields, body)


def test_samples_make_the_filter_say_different_things(answers: list[bytes]) -> None:
    """Otherwise the other tests here would prove little; the twin agrees on each."""
    assert [twin(*parts_of(content)) for content in SAMPLES] == answers
    assert len(set(answers)) >= 5
    assert {answer.split()[0] for answer in answers} == {b"clean", b"suspect"}


def test_extension_decides_as_the_library(tmp_path: Path, answers: list[bytes]) -> None:
    """Three of them, in the real delivery: each adds its own field, all with the same decision."""
    names = ["filter-1", "filter-2", "filter-3"]
    places = building.extensions(tmp_path, names)
    grants = "{spinrt:mail/message@1.0.0: {}, spinrt:mail/delivery@1.0.0: {}}"
    text = "extensions:\n" + "".join(f"  {name}: {{path: {places[name]}, grants: {grants}}}\n" for name in names)
    delivering = Delivering(parse(text, tmp_path / "spinrt.yaml").extensions, SAMPLES)
    for answer in answers:
        (copy,) = delivering.deliver().copies
        assert sorted(copy.prefix.splitlines()) == [b"X-Bench-%b: %b" % (name.encode(), answer) for name in names]


def test_function_in_aiosmtpd_decides_as_the_library(library: Library, answers: list[bytes]) -> None:
    """Three, one behind the other; the handler counts every message once."""
    import asyncio

    from aiosmtpd.smtp import Envelope

    handler = FilteringHandler([function(library)] * 3)
    for content, answer in zip(SAMPLES, answers, strict=True):
        envelope = Envelope()
        envelope.content = content
        before = handler.tally.suspects
        assert asyncio.run(handler.handle_DATA(None, None, envelope)).startswith("250")
        assert handler.tally.suspects - before == answer.startswith(b"suspect")
    assert handler.tally.messages == len(SAMPLES)


def test_http_hook_decides_as_the_library(tmp_path: Path, path: Path, answers: list[bytes]) -> None:
    """Over one connection that is kept; its tally says what it did."""
    port, tally = free_port(), tmp_path / "hook.tally"
    command = [sys.executable, "-m", "benchmarks.filters.hook_service", str(port), str(tally), str(path)]
    with running("hook", command, port, tmp_path):
        link = http.client.HTTPConnection(HOST, port, timeout=10)
        for content, answer in zip(SAMPLES, answers, strict=True):
            link.request("POST", "/filter", body=content)
            body = link.getresponse().read()
            assert body == b'{"headers": [["%b", "%b"]]}' % (HEADER.encode(), answer)
        link.close()
    assert Tally.read(tally) == tally_of(answers)


def test_policy_service_judges_the_sender_alone(tmp_path: Path, path: Path, library: Library) -> None:
    """Two requests in one packet, one in two; each is answered."""
    at, tally = tmp_path / "policy.sock", tmp_path / "policy.tally"
    command = [sys.executable, "-m", "benchmarks.filters.policy_service", str(at), str(tally), str(path)]
    request = b"request=smtpd_access_policy\nsender=%b\nrecipient=user@example.com\n\n"
    expected = [
        library.decide([sender, None, None, None], b"") for sender in (b"a@b.example", b"won.cash@free.example")
    ]
    with running("policy", command, at, tmp_path), socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(at))
        both = request % b"a@b.example" + request % b"won.cash@free.example"
        for pieces in ([both], [both[:70], both[70:]]):
            for piece in pieces:
                link.sendall(piece)
            answer = b"".join(b"action=PREPEND %b: %b\n\n" % (HEADER.encode(), one) for one in expected)
            assert receive(link, len(answer)) == answer
    assert Tally.read(tally) == Tally(4, 2)


def receive(link: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length and (data := link.recv(length - len(received))):
        received += data
    return received


def tally_of(answers: list[bytes]) -> Tally:
    return Tally(len(answers), sum(answer.startswith(b"suspect") for answer in answers))


def milter_command(form: str, at: Path, tally: Path, path: Path) -> list[str]:
    try:
        if form == postfix_fronts.PYMILTER:
            python = [postfix_fronts.python_with_pymilter(), "-m", "benchmarks.filters.python_milter"]
            return [*python, f"unix:{at}", str(tally), str(path)]
        build = building.milter if form == postfix_fronts.MILTER else building.noop_milter
        return [str(build(at.parent)), f"unix:{at}", str(tally)]
    except PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("form", [postfix_fronts.MILTER, postfix_fronts.PYMILTER])
def test_milters_decide_as_the_library(form: str, tmp_path: Path, path: Path, answers: list[bytes]) -> None:
    """Message after message of one session; and they ask for no reply to fields and none to what they do not need."""
    at, tally = tmp_path / "milter.sock", tmp_path / "milter.tally"
    with running(form, milter_command(form, at, tally, path), at, tmp_path), MilterClient(at) as client:
        for content, answer in zip(SAMPLES, answers, strict=True):
            fields, body = fields_of(content)
            assert client.ask(fields, body) == [(HEADER.encode(), answer)]
            assert client.round_trips == 1 + bool(body)
    assert Tally.read(tally) == tally_of(answers)


def test_noop_milter_asks_for_everything_and_changes_nothing(tmp_path: Path, path: Path) -> None:
    """One round trip for each of sender, recipient, DATA, field, end of header, body, end of message."""
    at, tally = tmp_path / "noop.sock", tmp_path / "noop.tally"
    form = postfix_fronts.NOOP_MILTER
    with running(form, milter_command(form, at, tally, path), at, tmp_path), MilterClient(at) as client:
        fields, body = fields_of(SAMPLES[0])
        assert client.ask(fields, body) == []
        assert client.round_trips == 6 + len(fields)
    assert Tally.read(tally) == Tally(1, 0)


def test_parts_are_those_that_the_server_sees() -> None:
    """Names in any case, the first of each, folding undone; nothing of the body passes for a field."""
    content = b"subject: a\r\n b\r\nSubject: c\r\nX-Subject: d\r\n\r\nFrom: body\r\n"
    assert parts_of(content) == ([None, b" a b", None, None], b"From: body\r\n")
    assert NAMES == ("from", "subject", "list-id", "x-priority")


@pytest.mark.parametrize(
    ("content", "usable"),
    [
        (b"Subject: a\r\n\r\nb\r\n", True),
        (b"Subject: a\r\n folded\r\nTo: b\r\n\r\n", True),
        (b"Subject: a\n\nb\n", False),
        (b"Subject: a\r\n\r\nb\rc\r\n", False),
        (b"Subject: a\r\n\r\n\0\r\n", False),
        (b"no field\r\n\r\nb\r\n", False),
        (b"Subject: a\r\nno field\r\n\r\nb\r\n", False),
        (b"Subject: no end\r\n", False),
        (b"Subject: a\r\n\r\n" + b"x" * 999 + b"\r\n", False),
        (b"Subject: a\r\n\r\n" + b"x" * 998 + b"\r\n", True),
    ],
)
def test_only_what_every_server_takes_is_sent(content: bytes, usable: bool) -> None:
    """The others are counted as left out."""
    assert messages.is_usable(content) is usable


def test_own_messages_are_read_spread_evenly_and_judged(tmp_path: Path, library: Library) -> None:
    """An mbox or a directory; suspects of a run that goes round and round."""
    for number in range(900):
        subject = "won" if number % 3 == 0 else "lunch"
        (tmp_path / f"{number:04}").write_text(f"Subject: {subject} money\n\nnumber {number}\n")
    (tmp_path / "broken").write_text("no header\n")
    chosen = messages.load(tmp_path, library)
    assert len(chosen.contents) == messages.COUNT_MAX
    assert chosen.left_out == 1
    assert chosen.contents[0].endswith(b"number 0\r\n") and chosen.contents[-1].endswith(b"number 897\r\n")
    assert chosen.suspects_of(2 * messages.COUNT_MAX + 1) == 2 * sum(chosen.suspects) + chosen.suspects[0]
