"""Compiled modules, kept between runs.

Compiling takes a hundred times as long as reading what was compiled, but reading it runs native code from a file.
So a file counts only if it was written by somebody who holds the key: another file of the same directory that only the
owner can read. What is wrong with a file does not matter: it is passed over, and written again.

Layout of an entry, whose name is the hash of what it was compiled from: magic (16 bytes), then HMAC-SHA-256 (32 bytes)
of the name and of all that follows, then the engine's own format. The engine checks that the latter is of its version,
settings and kind of processor.

The directory is ``$SPINRT_CACHE``, or ``spinrt/modules`` below ``$XDG_CACHE_HOME`` or ``~/.cache``;
``SPINRT_CACHE=off`` does without. Whoever may write into it as its owner may run code as that owner anyway.

Source: docs/security.md, "How it holds".
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from spinrt._core import Module
from spinrt.errors import ModuleError
from spinrt.limits import MIB

VARIABLE: Final = "SPINRT_CACHE"
OFF: Final = "off"
CACHE_BYTES_MAX: Final = 256 * MIB
ENTRY_BYTES_MAX: Final = 128 * MIB

_MAGIC: Final = b"spinrt-module-1\n"
_MAC_BYTES: Final = hashlib.sha256().digest_size
_KEY_NAME: Final = "key"
_KEY_BYTES: Final = 32
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def compile_module(code: bytes, name: str) -> Module:
    """Compile a module, or take what was compiled of these bytes before.

    Raises:
        ModuleError: The engine refuses the module. (Never for anything that is wrong with the cache.)
    """
    directory = _usable_directory()
    if directory is None:
        return Module(code, name)
    kept = ModuleCache(directory)
    found = kept.read(code, name)
    if found is None:
        found = Module(code, name)
        kept.write(code, found)
    return found


def cache_home() -> Path:
    """Return where this user's caches of spinrt are, whether or not it is there.

    Raises:
        RuntimeError: The user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spinrt"


@cache
def _made_by() -> bytes:
    """What compiled modules depend on. Asked once: it reads files, and leaves cycles behind."""
    return f"{version('spinrt')} {version('wasmtime')} ".encode()


class ModuleCache:
    """The entries in one directory, which only its owner can enter.

    Args:
        directory: Exists.
        bytes_max: Bound of all entries together; the ones that were not used for longest go first.
    """

    def __init__(self, directory: Path, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._directory, self._bytes_max = directory, bytes_max

    def read(self, code: bytes, name: str) -> Module | None:
        """Return what was compiled of these bytes; none if there is nothing that can be trusted and used."""
        entry = self._name(code)
        content = _read_own(self._directory / entry, ENTRY_BYTES_MAX)
        if content is None or not content.startswith(_MAGIC):
            return None
        key, head = self._key(), len(_MAGIC) + _MAC_BYTES
        if key is None or not hmac.compare_digest(content[len(_MAGIC) : head], _mac(key, entry, content[head:])):
            return None
        with contextlib.suppress(OSError):
            os.utime(self._directory / entry)
        try:
            return Module(content[head:], name, compiled=True)
        except ModuleError:  # another version of the engine, or another processor
            return None

    def write(self, code: bytes, module: Module) -> None:
        """Keep what was compiled of these bytes, if that is possible."""
        entry, key = self._name(code), self._key()
        compiled = module.serialized()
        if key is None or len(compiled) > min(ENTRY_BYTES_MAX, self._bytes_max) // 2:
            return
        with contextlib.suppress(OSError):
            _write_own(self._directory / entry, _MAGIC + _mac(key, entry, compiled) + compiled)
            self._prune()

    def _name(self, code: bytes) -> str:
        return hashlib.sha256(_made_by() + code).hexdigest()

    def _key(self) -> bytes | None:
        """Return the key, a new one if there is none that nobody else could have read or written."""
        path = self._directory / _KEY_NAME
        for _ in range(2):
            key = _read_own(path, _KEY_BYTES)
            if key is not None and len(key) == _KEY_BYTES:
                return key
            with contextlib.suppress(OSError):
                _write_own(path, secrets.token_bytes(_KEY_BYTES))
        return None

    def _prune(self) -> None:
        """Remove the entries that were not used for longest, until the rest is within bounds."""
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name != _KEY_NAME:
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= self._bytes_max:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
            left -= size


def _usable_directory() -> Path | None:
    """The directory, made if need be; none if there is to be none, or others could enter it."""
    named = os.environ.get(VARIABLE, "")
    if named == OFF:
        return None
    try:
        directory = Path(named) if named else cache_home() / "modules"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
    except (OSError, RuntimeError):
        return None
    return directory if stat.S_ISDIR(status.st_mode) and _is_own(status) else None


def _is_own(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS


def _read_own(path: Path, bytes_max: int) -> bytes | None:
    """The content of a plain file that only we can read and write; else none."""
    try:
        with open(path, "rb", opener=_open_itself) as reader:
            status = os.fstat(reader.fileno())
            if not stat.S_ISREG(status.st_mode) or not _is_own(status) or status.st_size > bytes_max:
                return None
            return reader.read(bytes_max)
    except OSError:
        return None


def _open_itself(path: str, flags: int) -> int:
    """Open no other file that a link names, and wait for no writer of a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _write_own(path: Path, content: bytes) -> None:
    """Put a file there that only we can read; whoever reads sees the old one or the new one.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(file, "wb") as writer:
            writer.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mac(key: bytes, entry: str, compiled: bytes) -> bytes:
    made = hmac.new(key, entry.encode(), hashlib.sha256)
    made.update(compiled)
    return made.digest()
