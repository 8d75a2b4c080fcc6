"""Listening sockets, with errors that name the address and say what to do."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinrt.errors import Busy, ConfigError

BACKLOG = 1024
UNIX_MODE = 0o660

_HINTS = {
    errno.EACCES: "ports below 1024 need a privilege; choose a higher one or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
}


async def listen_tcp(factory: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any) -> asyncio.Server:
    """Listen on a TCP port; ``options`` are those of ``loop.create_server``.

    Raises:
        Busy: Another process listens there.
        ConfigError: It cannot be done for another reason.
    """
    if not 0 <= port <= 65_535:
        raise ConfigError(f"cannot listen on {host} port {port}: no such port", hint="ports are 1 to 65535")
    try:
        return await asyncio.get_running_loop().create_server(factory, host, port, backlog=BACKLOG, **options)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error)
        message = f"cannot listen on {host} port {port}: {reason}"
        if number == errno.EADDRINUSE:
            raise Busy(message, hint="another process listens there; stop it or choose another port") from error
        raise ConfigError(message, hint=_HINTS.get(number, "")) from error


async def listen_unix(factory: Callable[[], asyncio.Protocol], path: Path) -> asyncio.Server:
    """Listen on a Unix socket that owner and group can reach. A socket that nobody listens on is replaced.

    Raises:
        Busy: Another process listens there.
        ConfigError: Something else is at that path, or it cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        # The mode must be right from the first moment; there is no thread that makes files meanwhile.
        mask = os.umask(0o777 & ~UNIX_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        return await asyncio.get_running_loop().create_unix_server(factory, sock=listener, backlog=BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error
    except (Busy, ConfigError):
        listener.close()
        raise


def _remove_stale(path: Path) -> None:
    """Remove a socket whose server is gone."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"cannot listen on {path}: it is there and not a socket", hint="choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Busy(f"cannot listen on {path}: another process listens there", hint="stop it or choose another path")
