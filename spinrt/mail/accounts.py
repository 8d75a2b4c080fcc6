"""Who has an account here: addresses to accounts, and passwords.

Passwords are argon2id hashes. Verifying one costs tens of milliseconds and megabytes by design, so it runs in a small
pool of threads off the event loop, and what waits for the pool is bounded: more is refused for now, none piles up.

Invariants:

- *Same cost for strangers.* An unknown name costs one verification with the parameters of a real account: the time of
  an answer does not tell which names exist.
- *The cache holds no password.* It maps an HMAC-SHA256 of name, hash and password, under a key drawn when the process
  starts, to the moment it expires. A changed hash gives another HMAC, so a changed password is in force at once. Only
  what verified is kept; a wrong password costs a verification each time.
- *Bounded.* Cache entries, threads, waiting verifications and password lengths have limits.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import argon2

from spinrt import limits, trace
from spinrt.clock import Clock, SystemClock
from spinrt.errors import Busy
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address

_LOG = trace.component("accounts")

THREADS_MAX = 2
WAITING_MAX = 64
"""Verifications that run or wait for a thread; at some 30 ms each the last of them waits a second."""
CACHE_ENTRIES_MAX = 4096
CACHE_TTL_S = 300.0
RESOLVED_MAX = 4096
"""Addresses whose account, or having none, is remembered: each is asked for at RCPT and when it is delivered to."""
POSTMASTER = "postmaster"

# OWASP's minimum for argon2id: 19 MiB, two passes. Stored hashes keep their own parameters.
_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password in PHC form. Takes tens of milliseconds.

    Raises:
        ValueError: Empty, or longer than ``limits.PASSWORD_BYTES_MAX``.
    """
    if not 1 <= len(password.encode()) <= limits.PASSWORD_BYTES_MAX:
        raise ValueError(f"a password has 1 to {limits.PASSWORD_BYTES_MAX} bytes")
    return _HASHER.hash(password)


class Directory:
    """Addresses to accounts; immutable, made anew when accounts change."""

    def __init__(self, accounts: Mapping[str, Account], domains: tuple[str, ...], postmaster: str | None) -> None:
        self.accounts = dict(accounts)
        self.domains = frozenset(domains)
        self._by_address = {address: account for account in accounts.values() for address in account.addresses}
        self._catch_all = next((account for account in accounts.values() if account.catch_all), None)
        self._postmaster = None if postmaster is None else accounts.get(postmaster)
        self.resolve = lru_cache(maxsize=RESOLVED_MAX)(self._resolve)
        """As `_resolve`, which it remembers."""

    def _resolve(self, address: Address) -> tuple[Account, str | None] | None:
        """Return the account that an address leads to and the address' detail; none when nobody has it.

        An address that is claimed as it stands wins over one read as user and detail, which wins over the postmaster,
        who wins over the one who catches all. ``<postmaster>`` without a domain is the postmaster's (RFC 5321 4.5.1).
        """
        plain = address.normalised()
        if not plain.domain:
            return self._resolve_domainless(plain, address.detail)
        if plain.domain not in self.domains:
            return None
        account = self._by_address.get(plain)
        if account is not None:
            return account, None
        account = self._by_address.get(Address(plain.user, plain.domain)) if plain.detail is not None else None
        if account is not None:
            return account, address.detail
        fallback = self._postmaster if plain.local == POSTMASTER and self._postmaster else self._catch_all
        return None if fallback is None else (fallback, None)

    def _resolve_domainless(self, plain: Address, detail: str | None) -> tuple[Account, str | None] | None:
        """Over LMTP a peer may name the account itself; everywhere there is a postmaster."""
        if plain.local in self.accounts:
            return self.accounts[plain.local], None
        if plain.user in self.accounts:
            return self.accounts[plain.user], detail
        if plain.local != POSTMASTER:
            return None
        claimed = (self._by_address.get(Address(POSTMASTER, domain)) for domain in sorted(self.domains))
        found = self._postmaster or next((owner for owner in claimed if owner is not None), None)
        return None if found is None else (found, None)

    def owns(self, user: str, address: Address) -> bool:
        """Whether mail from that address may be sent by that account: it resolves to it."""
        found = self.resolve(address)
        return found is not None and found[0].name == user


class Accounts:
    """The accounts of a running server; its methods are called on the event loop's thread."""

    def __init__(
        self,
        directory: Directory,
        *,
        clock: Clock | None = None,
        threads_max: int = THREADS_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self.directory = directory
        self._cache = VerifiedCache(clock or SystemClock())
        self._pool = ThreadPoolExecutor(threads_max, thread_name_prefix="spinrt-password")
        self._waiting_max = waiting_max
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self._dummy_hash = _dummy_hash(directory)

    def replace(self, directory: Directory) -> None:
        """Use other accounts from now on. Sessions that are logged in stay so."""
        self.directory = directory
        self._dummy_hash = _dummy_hash(directory)

    def resolve(self, address: Address) -> tuple[Account, str | None] | None:
        """See `Directory`."""
        return self.directory.resolve(address)

    async def verify(self, user: str, password: str) -> str | None:
        """Return the account's name if the password is right, else none.

        ``user`` is the account's name, or one of its addresses.

        Cost: microseconds for a password verified within the last minutes, else one argon2 hash in another thread.

        Raises:
            Busy: Too many verifications wait already; the same login may succeed in a moment.
        """
        account = self._find(user)
        stored = self._dummy_hash if account is None else account.password_hash
        name = "" if account is None else account.name
        if len(password.encode("utf-8", "surrogatepass")) > limits.PASSWORD_BYTES_MAX:
            return None
        entry = self._cache.key(name, stored, password)
        if account is not None and self._cache.has(entry):
            return name
        if not await self._hash_matches(stored, password) or account is None:
            return None
        self._cache.add(entry)
        return name

    def authenticate(self, user: str, password: str, done: Callable[[str | None], None]) -> None:
        """As `verify`, with a callback on the event loop; called exactly once, with none also when too many wait."""
        task = asyncio.get_running_loop().create_task(self._authenticate(user, password, done))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Wait for verifications that run; those that wait are cancelled."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _authenticate(self, user: str, password: str, done: Callable[[str | None], None]) -> None:
        try:
            name = await self.verify(user, password)
        except Busy as error:
            trace.log(_LOG, logging.WARNING, "login refused", reason=error)
            name = None
        done(name)

    def _find(self, user: str) -> Account | None:
        account = self.directory.accounts.get(user.lower())
        if account is not None or "@" not in user:
            return account
        local, _, domain = user.rpartition("@")
        found = self.directory.resolve(Address(local, domain))
        # A detail or a catch-all address receives mail for the account, but is no name of its own to log in with.
        claimed = found is not None and Address(local, domain).normalised() in found[0].addresses
        return found[0] if found is not None and claimed else None

    async def _hash_matches(self, stored: str, password: str) -> bool:
        if self._waiting >= self._waiting_max:
            raise Busy(f"accounts: {self._waiting} logins wait to be verified, expected fewer than {self._waiting_max}")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, _matches, stored, password)
        # Counted until the thread is done with it, not until the caller stops waiting.
        future.add_done_callback(self._one_less)
        return await asyncio.shield(future)

    def _one_less(self, future: asyncio.Future[bool]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # seen, also when the caller is gone


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password.encode("utf-8", "surrogatepass"))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _dummy_hash(directory: Directory) -> str:
    """A hash of a password that nobody knows, made as the first account's was made."""
    account = next(iter(directory.accounts.values()), None)
    if account is None:
        return _HASHER.hash(os.urandom(16))
    return argon2.PasswordHasher.from_parameters(argon2.extract_parameters(account.password_hash)).hash(os.urandom(16))


class VerifiedCache:
    """Which (name, hash, password) verified a short while ago; see the head of this file."""

    def __init__(self, clock: Clock, *, entries_max: int = CACHE_ENTRIES_MAX, ttl_s: float = CACHE_TTL_S) -> None:
        self._clock = clock
        self._entries_max = entries_max
        self._ttl_s = ttl_s
        self._secret = os.urandom(32)
        self._expires_s: OrderedDict[bytes, float] = OrderedDict()

    def key(self, name: str, stored: str, password: str) -> bytes:
        """The entry's key. Parts carry their lengths, so that no two different triples give the same bytes."""
        message = b"".join(
            len(part).to_bytes(4) + part
            for part in (text.encode("utf-8", "surrogatepass") for text in (name, stored, password))
        )
        return hmac.digest(self._secret, message, "sha256")

    def has(self, key: bytes) -> bool:
        """Whether the entry is there and fresh.

        A look-up by an HMAC under a secret key tells nothing by its time: nobody outside can choose the bytes compared.
        """
        expires_s = self._expires_s.get(key)
        if expires_s is None:
            return False
        if self._clock.monotonic_s() < expires_s:
            return True
        del self._expires_s[key]
        return False

    def add(self, key: bytes) -> None:
        """Remember an entry; the one that expires first makes room."""
        self._expires_s[key] = self._clock.monotonic_s() + self._ttl_s
        self._expires_s.move_to_end(key)
        while len(self._expires_s) > self._entries_max:
            self._expires_s.popitem(last=False)

    def __len__(self) -> int:
        return len(self._expires_s)
