"""The server's certificate: made once, kept private, replaced when it no longer serves."""

from __future__ import annotations

import os
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from spinrt.errors import ConfigError
from spinrt.mail import config as config_module
from spinrt.mail.tls import VALID_DAYS, fingerprint, load_context, self_signed, server_context


class FakeClock:
    def __init__(self, wall_s: float) -> None:
        self.now_s = wall_s

    def wall_ns(self) -> int:
        return int(self.now_s * 1_000_000_000)

    def monotonic_s(self) -> float:
        return self.now_s


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """Do a TLS handshake in memory and return the version that was agreed."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(sides)
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return sides[0].version()


@pytest.mark.parametrize("name", ["mail.example.org", "localhost", "127.0.0.1", "::1"])
def test_self_signed_serves_every_name(tmp_path: Path, name: str) -> None:
    """A client that pins the certificate can verify each of the names, over TLS 1.2 or newer."""
    certificate, key = self_signed(tmp_path / "tls", ["mail.example.org", "localhost", "127.0.0.1", "::1"])
    client = ssl.create_default_context(cafile=str(certificate))

    assert shake(load_context(certificate, key), client, name) in {"TLSv1.2", "TLSv1.3"}


def test_old_protocol_is_refused(tmp_path: Path) -> None:
    """The context takes nothing older than TLS 1.2."""
    assert load_context(*self_signed(tmp_path, ["localhost"])).minimum_version == ssl.TLSVersion.TLSv1_2


def test_self_signed_key_is_private(tmp_path: Path) -> None:
    """Key and directory are for their owner only, whatever the umask."""
    before = os.umask(0)
    try:
        _, key = self_signed(tmp_path / "tls", ["localhost"])
    finally:
        os.umask(before)

    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700


def test_self_signed_is_kept_until_it_no_longer_serves(tmp_path: Path) -> None:
    """It stays the same for the same names, and is made anew for a new name, near expiry, or with a broken key."""
    clock = FakeClock(1_800_000_000)
    certificate, key = self_signed(tmp_path, ["a.example"], clock=clock)
    first = fingerprint(certificate)

    assert fingerprint(self_signed(tmp_path, ["a.example"], clock=clock)[0]) == first
    second = fingerprint(self_signed(tmp_path, ["a.example", "b.example"], clock=clock)[0])
    assert second != first
    clock.now_s += timedelta(days=VALID_DAYS - 10).total_seconds()
    third = fingerprint(self_signed(tmp_path, ["a.example", "b.example"], clock=clock)[0])
    assert third != second
    key.write_bytes(b"not a key")
    assert fingerprint(self_signed(tmp_path, ["a.example"], clock=clock)[0]) != third


def test_self_signed_that_cannot_be_renewed_serves_until_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full device keeps it as it is, both files of it; what has expired is an error."""
    clock = FakeClock(1_800_000_000)
    first = fingerprint(self_signed(tmp_path, ["a.example"], clock=clock)[0])
    real, syncs = os.fsync, [0]

    def full(descriptor: int) -> None:
        """The key still finds room, the certificate does not."""
        syncs[0] += 1
        if syncs[0] % 2 == 0:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    clock.now_s += timedelta(days=VALID_DAYS - 10).total_seconds()
    for _ in range(2):
        assert fingerprint(self_signed(tmp_path, ["a.example"], clock=clock)[0]) == first
        load_context(tmp_path / "certificate.pem", tmp_path / "key.pem")
    assert caplog.text.count("serves until it expires") == 2
    clock.now_s += timedelta(days=20).total_seconds()
    with pytest.raises(ConfigError, match="No space"):
        self_signed(tmp_path, ["a.example"], clock=clock)


def test_configured_files_are_used(tmp_path: Path) -> None:
    """A certificate of the operator's is what clients see; nothing is generated."""
    ca = trustme.CA()
    issued = ca.issue_cert("mail.example.org")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "c.pem")
    issued.private_key_pem.write_to_path(tmp_path / "k.pem")
    config = config_module.parse("tls: {certificate: c.pem, key: k.pem}", tmp_path / "spinrt.yaml")
    client = ssl.create_default_context()
    ca.configure_trust(client)

    context = server_context(config)

    assert context is not None
    assert shake(context, client, "mail.example.org") in {"TLSv1.2", "TLSv1.3"}
    assert not config.data_directory.exists()


def test_tls_off_gives_no_context(tmp_path: Path) -> None:
    """Without files and without self-signing there is no TLS."""
    assert server_context(config_module.parse("tls: {self_signed: false}", tmp_path / "spinrt.yaml")) is None


def test_default_makes_a_certificate_below_the_data_directory(tmp_path: Path) -> None:
    """Nothing configured: the certificate is made in the data directory."""
    config = config_module.parse("hostname: mail.example.org", tmp_path / "spinrt.yaml")

    assert server_context(config) is not None
    assert (config.data_directory / "tls" / "certificate.pem").exists()


def test_wrong_files_are_one_clear_line(tmp_path: Path) -> None:
    """Missing, foreign and mismatched files each say which file and what is wrong."""
    certificate, key = self_signed(tmp_path / "one", ["localhost"])
    _, other = self_signed(tmp_path / "two", ["localhost"])
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    with pytest.raises(ConfigError, match=r"tls.key: .*missing.pem cannot be read: No such file"):
        load_context(certificate, tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match="does not belong to the certificate"):
        load_context(certificate, other)
    with pytest.raises(ConfigError, match="in PEM form"):
        load_context(junk, key)
    with pytest.raises(ConfigError, match="cannot be written"):
        self_signed(junk / "below", ["localhost"])
