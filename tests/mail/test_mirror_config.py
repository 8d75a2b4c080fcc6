"""What the mirror's server refuses is refused by `spinrt config check`, and the other way round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinrt.errors import SpinError
from spinrt.mail.config import Config
from spinrt.mail.config_check import rehearse
from spinrt.mail.mirror_server import MirrorServer, identity_directory
from spinrt.mail.service import MailService
from spinrt.mail.tls import pinned_pair
from tests.mail.service_support import config_of


def standby(directory: Path, **changes: Any) -> Config:
    """A machine that keeps mirrors of two others."""
    sources = {}
    for name in ("one", "two"):
        certificate, _ = pinned_pair(directory / name, name)
        sources[name] = {"directory": str(directory / f"of-{name}"), "certificate": str(certificate)}
    config = config_of(directory, mirror={"listen": "127.0.0.1:0", "sources": sources} | changes)
    pinned_pair(identity_directory(config), "standby")
    return config


def refused(start: Callable[[], object]) -> str | None:
    try:
        start()
    except SpinError as error:
        assert error.line().isprintable()
        return str(error)
    return None


def started(config: Config) -> None:
    async def start() -> None:
        server = MirrorServer(config)
        await server.start()
        await server.close()

    asyncio.run(start())


def served(config: Config) -> None:
    async def serve() -> None:
        service = MailService(config)
        try:
            await service.start()
        finally:
            await service.stop(grace_s=0.0)

    asyncio.run(serve())


def nothing(path: Path) -> None: ...


def own_mail(path: Path) -> None:
    (path / "of-one" / "log").mkdir(parents=True)
    (path / "of-one" / "FORMAT").write_text("spinrt-data 1\n")
    (path / "of-one" / "log" / f"{0:020d}.log").touch()


def other_files(path: Path) -> None:
    (path / "of-one").mkdir()
    (path / "of-one" / "holiday.jpg").touch()


def a_file(path: Path) -> None:
    (path / "of-one").touch()


def same_certificate(path: Path) -> None:
    (path / "two" / "certificate.pem").write_bytes((path / "one" / "certificate.pem").read_bytes())


def no_key(path: Path) -> None:
    (path / "mirror" / "key.pem").unlink()


def bad_book(path: Path) -> None:
    (path / "of-one").mkdir()
    (path / "of-one" / "FORMAT").write_text("spinrt-data 1\n")
    (path / "of-one" / "MIRROR").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "changes", "says"),
    [
        (own_mail, {}, "has mail of its own"),
        (other_files, {}, "holds other files"),
        (a_file, {}, "Not a directory"),
        (same_certificate, {}, "same certificate"),
        (no_key, {}, "cannot be used"),
        (bad_book, {}, "is not what a mirror writes"),
        (nothing, {"listen": None}, "mirror.sources without mirror.listen"),
        (nothing, {"sources": {}}, "mirror.listen without mirror.sources"),
    ],
    ids=["own-mail", "other-files", "file", "same-certificate", "no-key", "book", "no-listen", "no-sources"],
)
def test_check_and_start_refuse_the_same(
    tmp_path: Path, spoil: Callable[[Path], None], changes: dict[str, Any], says: str
) -> None:
    config = standby(tmp_path, **changes)
    spoil(tmp_path)

    checked = refused(lambda: rehearse(config))
    assert checked is not None
    assert says in checked
    for start in (started, served):
        found = refused(lambda start=start: start(config))  # type: ignore[misc]
        assert found is not None
        assert says in found


def test_a_mirror_in_the_data_directory_itself_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, mirror={"targets": {"disk": {"directory": str(tmp_path / "x" / ".." / "data")}}})

    for start in (rehearse, served):
        assert "is the data directory itself" in str(refused(lambda start=start: start(config)))  # type: ignore[misc]


def test_what_is_good_starts_and_looking_made_nothing(tmp_path: Path) -> None:
    config = standby(tmp_path)

    assert refused(lambda: rehearse(config)) is None
    assert not (tmp_path / "of-one").exists()
    assert refused(lambda: started(config)) is None
    assert refused(lambda: rehearse(config)) is None
