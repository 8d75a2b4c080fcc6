"""The server's TLS context: from the operator's certificate, or from one that the server makes for itself.

A self-signed certificate lives in the data directory as ``tls/certificate.pem`` and ``tls/key.pem`` (mode 0600). It is
made once and kept, so that clients may pin it, and made anew when it is about to expire or no longer names the host.
TLS 1.2 and newer only.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spinrt.clock import Clock, SystemClock, wall_s
from spinrt.errors import ConfigError
from spinrt.mail.config import Config

VALID_DAYS = 825
"""The longest that Apple's clients accept."""
RENEW_DAYS = 30
PINNED_DAYS = 20 * 365
"""Of a certificate that the other side knows by heart: a new one would have to be pinned anew."""
COMMON_NAME_CHARACTERS_MAX = 64

_LOG = logging.getLogger("spinrt.mail.tls")


def server_context(config: Config, *, clock: Clock | None = None) -> ssl.SSLContext | None:
    """Return the context to serve TLS with, or none when TLS is off. May write a certificate into the data directory.

    Raises:
        ConfigError: Certificate or key cannot be read, do not fit together, or cannot be written.
    """
    if config.tls.certificate is not None and config.tls.key is not None:
        return load_context(config.tls.certificate, config.tls.key)
    if not config.tls.self_signed:
        return None
    names = [config.hostname, *config.domains, "localhost", "127.0.0.1", "::1"]
    return load_context(*self_signed(config.data_directory / "tls", names, clock=clock))


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context with that certificate chain and unencrypted key (PEM).

    Raises:
        ConfigError: A file cannot be read, is no PEM, or the two do not belong together.
    """
    for role, path in (("certificate", certificate), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise ConfigError(f"tls.{role}: {path} cannot be read: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An encrypted key must fail, not ask on the terminal of a server.
        context.load_cert_chain(certificate, key, password=b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls: the key in {key} does not belong to the certificate in {certificate}") from None
        raise ConfigError(
            f"tls: {certificate} and {key} are not a certificate and an unencrypted key in PEM form"
        ) from None
    return context


def self_signed(directory: Path, names: Iterable[str], *, clock: Clock | None = None) -> tuple[Path, Path]:
    """Return the paths of a certificate for those host names and addresses and of its key, making them when needed.

    Raises:
        ConfigError: The directory cannot be written.
    """
    certificate_path, key_path = directory / "certificate.pem", directory / "key.pem"
    wanted = _alternative_names(names)
    now = datetime.fromtimestamp(wall_s(clock or SystemClock()), UTC)
    if not _usable(certificate_path, key_path, wanted, now, now + timedelta(days=RENEW_DAYS)):
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            _write_pair(directory, key, _sign(key, wanted, now, VALID_DAYS, [ExtendedKeyUsageOID.SERVER_AUTH]))
        except ConfigError as error:
            if not _usable(certificate_path, key_path, wanted, now, now):
                raise
            _LOG.warning("tls: %s; the one that is there serves until it expires", error)
    return certificate_path, key_path


def pinned_pair(directory: Path, name: str, *, clock: Clock | None = None) -> tuple[Path, Path]:
    """Return the paths of a certificate for both ends of a connection and of its key; made unless they are there.

    Raises:
        ConfigError: The directory cannot be written.
    """
    certificate_path, key_path = directory / "certificate.pem", directory / "key.pem"
    if not (certificate_path.exists() and key_path.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.fromtimestamp(wall_s(clock or SystemClock()), UTC)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        _write_pair(directory, key, _sign(key, _alternative_names([name]), now, PINNED_DAYS, usages))
    return certificate_path, key_path


def _write_pair(directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = {
            directory / "key.pem": _write_beside(directory / "key.pem", _key_pem(key), 0o600),
            directory / "certificate.pem": _write_beside(
                directory / "certificate.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644
            ),
        }
        for path, beside in files.items():  # only now: one without the other serves nobody
            os.rename(beside, path)
    except OSError as error:
        raise ConfigError(f"{directory}: the self-signed certificate cannot be written: {error.strerror}") from None


def fingerprint(certificate: Path) -> str:
    """The SHA-256 fingerprint of a PEM certificate as clients show it: pairs of hex digits between colons."""
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return found.fingerprint(hashes.SHA256()).hex(":").upper()


def _alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    found: dict[x509.GeneralName, None] = {}
    for name in names:
        try:
            found[x509.IPAddress(ipaddress.ip_address(name))] = None
        except ValueError:
            found[x509.DNSName(name.rstrip("."))] = None
    return list(found)


def _usable(
    certificate_path: Path, key_path: Path, wanted: list[x509.GeneralName], now: datetime, until: datetime
) -> bool:
    """The files are there, fit together, name every host and are valid from now until then."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        key.public_key() == certificate.public_key()
        and set(wanted) <= set(named)
        and certificate.not_valid_before_utc <= now <= until < certificate.not_valid_after_utc
    )


def _sign(
    key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    now: datetime,
    days: int,
    usages: list[x509.ObjectIdentifier],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(names[0].value)[:COMMON_NAME_CHARACTERS_MAX])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # a client's clock may be behind
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    """Write what is to replace a file, and return where; it never exists with more rights than `mode`."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    return beside
