"""Accounts: which address leads where, and what a login costs and proves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import argon2
import pytest

from spinrt import limits
from spinrt.errors import Busy
from spinrt.mail import accounts as accounts_module
from spinrt.mail.accounts import Accounts, Directory, VerifiedCache, hash_password
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address, parse_address

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ALICE = Account("alice", CHEAP.hash("secret"), (Address("alice", "example.org"), Address("a+b", "example.org")))
BOB = Account("bob", CHEAP.hash("hunter2"), (Address("bob", "example.org"), Address("postmaster", "example.net")))


class FakeClock:
    """A clock that stands still until it is moved."""

    now_s = 100.0

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s


def directory(*accounts: Account, postmaster: str | None = None) -> Directory:
    return Directory({a.name: a for a in accounts}, ("example.org", "example.net"), postmaster)


@pytest.mark.parametrize(
    ("written", "name", "detail"),
    [
        ("alice@example.org", "alice", None),
        ("ALICE@EXAMPLE.ORG", "alice", None),
        ("alice+Lists@example.org", "alice", "Lists"),
        ("a+b@example.org", "alice", None),
        ("a+b@example.net", None, None),
        ("alice@example.net", None, None),
        ("carol@example.org", None, None),
        ("alice@elsewhere.test", None, None),
        ("postmaster@example.net", "bob", None),
        ("postmaster@example.org", None, None),
    ],
)
def test_resolve_follows_claims(written: str, name: str | None, detail: str | None) -> None:
    """A claimed address wins over user and detail; nothing outside our domains resolves."""
    found = directory(ALICE, BOB).resolve(parse_address(written))

    assert found == (None if name is None else ({"alice": ALICE, "bob": BOB}[name], detail))


def test_resolve_unclaimed_goes_to_postmaster_and_catch_all() -> None:
    """The postmaster's address goes to the postmaster, the rest of our domains to the one who catches all."""
    catcher = Account("carol", CHEAP.hash("x"), (Address("carol", "example.org"),), catch_all=True)
    accounts = directory(ALICE, catcher, postmaster="alice")

    assert accounts.resolve(parse_address("postmaster@example.org")) == (ALICE, None)
    assert accounts.resolve(parse_address("nobody@example.net")) == (catcher, None)
    assert accounts.resolve(parse_address("nobody@elsewhere.test")) is None


def test_resolve_without_domain_finds_names_and_the_postmaster() -> None:
    """LMTP peers may name an account; <Postmaster> leads to whoever claims it."""
    accounts = directory(ALICE, BOB)

    assert accounts.resolve(Address("alice", "")) == (ALICE, None)
    assert accounts.resolve(Address("alice+X", "")) == (ALICE, "X")
    assert accounts.resolve(Address("Postmaster", "")) == (BOB, None)
    assert accounts.resolve(Address("nobody", "")) is None


def test_owns_tells_whose_address_it_is() -> None:
    """An account may send as what resolves to it and as nothing else."""
    accounts = directory(ALICE, BOB)

    assert accounts.owns("alice", parse_address("alice+x@example.org"))
    assert not accounts.owns("alice", parse_address("bob@example.org"))
    assert not accounts.owns("alice", parse_address("alice@elsewhere.test"))


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("alice", "secret", "alice"),
        ("alice@example.org", "secret", "alice"),
        ("alice", "Secret", None),
        ("alice", "", None),
        ("alice", "\udcff", None),
        ("alice+x@example.org", "secret", None),
        ("bob", "secret", None),
        ("nobody", "secret", None),
        ("nobody@elsewhere.test", "secret", None),
        ("alice", "x" * (limits.PASSWORD_BYTES_MAX + 1), None),
    ],
)
def test_verify_accepts_only_the_right_password(user: str, password: str, expected: str | None) -> None:
    """Twice each: the second time with what the first left in the cache."""

    async def run() -> None:
        accounts = Accounts(directory(ALICE, BOB))
        try:
            assert [await accounts.verify(user, password) for _ in range(2)] == [expected] * 2
        finally:
            await accounts.close()

    asyncio.run(run())


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every hash that was verified for real."""
    seen: list[str] = []
    original = accounts_module._matches

    def counting(stored: str, password: str) -> bool:
        seen.append(stored)
        assert threading.current_thread() is not threading.main_thread()
        return original(stored, password)

    monkeypatch.setattr(accounts_module, "_matches", counting)
    return seen


def test_verify_hashes_once_until_it_expires_or_changes(verified: list[str]) -> None:
    """The cache spares the second verification; time and a changed hash end that."""

    async def run() -> None:
        clock = FakeClock()
        accounts = Accounts(directory(ALICE), clock=clock)
        await accounts.verify("alice", "secret")
        await accounts.verify("alice", "secret")
        assert len(verified) == 1

        clock.now_s += accounts_module.CACHE_TTL_S
        await accounts.verify("alice", "secret")
        assert len(verified) == 2

        changed = Account("alice", CHEAP.hash("new"), ALICE.addresses)
        accounts.replace(directory(changed))
        assert await accounts.verify("alice", "secret") is None
        assert await accounts.verify("alice", "new") == "alice"
        assert len(verified) == 4
        await accounts.close()

    asyncio.run(run())


def test_verify_costs_a_stranger_what_it_costs_a_user(verified: list[str]) -> None:
    """An unknown name is verified against a hash with the parameters of a real one."""

    async def run() -> None:
        accounts = Accounts(directory(ALICE))
        await accounts.verify("nobody", "secret")
        await accounts.verify("alice", "wrong")
        await accounts.close()

    asyncio.run(run())

    stranger, known = (argon2.extract_parameters(stored) for stored in verified)
    assert stranger == known
    assert verified[0] != verified[1]


def test_verify_too_many_waiting_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded, the callback form answers no, and the place is free again afterwards."""
    gate = threading.Event()
    monkeypatch.setattr(accounts_module, "_matches", lambda stored, password: gate.wait(10))

    async def run() -> None:
        accounts = Accounts(directory(ALICE), threads_max=1, waiting_max=2)
        waiting = [asyncio.create_task(accounts.verify("alice", f"p{n}")) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match="2 logins wait"):
            await accounts.verify("alice", "third")
        answers: list[str | None] = []
        await _called(lambda done: accounts.authenticate("alice", "fourth", done), answers)
        assert answers == [None]
        gate.set()
        assert await asyncio.gather(*waiting) == ["alice", "alice"]
        assert await accounts.verify("alice", "fifth") == "alice"
        await accounts.close()

    asyncio.run(run())


async def _called(start: Callable[[Callable[[str | None], None]], None], answers: list[str | None]) -> None:
    event = asyncio.Event()

    def done(name: str | None) -> None:
        answers.append(name)
        event.set()

    start(done)
    await asyncio.wait_for(event.wait(), 10)


def test_authenticate_calls_back_once_with_the_name() -> None:
    """The callback form gives what the coroutine gives."""

    async def run() -> list[str | None]:
        accounts = Accounts(directory(ALICE))
        answers: list[str | None] = []
        await _called(lambda done: accounts.authenticate("alice", "secret", done), answers)
        await _called(lambda done: accounts.authenticate("alice", "wrong", done), answers)
        await accounts.close()
        return answers

    assert asyncio.run(run()) == ["alice", None]


def test_cache_is_bounded_and_separates_its_parts() -> None:
    """The oldest entry makes room; moving a letter from one part to the next gives another key."""
    cache = VerifiedCache(FakeClock(), entries_max=2)
    keys = [cache.key("a", "h", str(n)) for n in range(3)]
    for key in keys:
        cache.add(key)

    assert [cache.has(key) for key in keys] == [False, True, True]
    assert len(cache) == 2
    assert cache.key("ab", "c", "d") != cache.key("a", "bc", "d")
    assert VerifiedCache(FakeClock()).key("a", "h", "0") != keys[0]


def test_hash_password_bounds_what_it_takes() -> None:
    """An empty password and one without end are refused; what is made is argon2id and verifies."""
    stored = hash_password("secret")

    assert stored.startswith("$argon2id$")
    assert accounts_module._matches(stored, "secret")
    for bad in ("", "x" * (limits.PASSWORD_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="1 to 1024 bytes"):
            hash_password(bad)
