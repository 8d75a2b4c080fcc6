"""Bounds and time-outs of one SMTP or LMTP listener."""

from __future__ import annotations

from dataclasses import dataclass

from spinrt.errors import ConfigError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class SmtpLimits:
    """Everything a peer can make the server spend has a bound here. Time-outs are in seconds.

    Attributes:
        message_bytes_max: Size of one message after dot-unstuffing; announced as SIZE.
        discard_bytes_max: Octets taken and thrown away behind a message that is too large, before the connection is
            closed instead.
        recipients_max: Accepted recipients of one transaction (RFC 5321 4.5.3.1.8 asks for 100 at least).
        hops_max: ``Received:`` fields of one message; more is a loop (RFC 5321 6.3).
        line_bytes_max: A command line or an authentication response, its CRLF included.
        input_bytes_max: Unparsed input kept while an answer is due; reading pauses above it.
        errors_max: Protocol errors of one session before it is closed.
        rejections_max: Refused recipients of one session before it is closed (address harvesting).
        login_failures_max: Refused logins of one session before it is closed.
        commands_per_message_max: Commands of one session since its last message.
        connections_max: Open connections of one listener.
        connections_per_address_max: Open connections of one peer address.
        command_timeout_s: From a reply to the end of the next command (RFC 5321 4.5.3.2.7).
        data_timeout_s: Between two pieces of a message.
        message_timeout_s: For the whole of one message.
        delivery_timeout_s: For the receiver to answer; then the connection is closed without an answer.
        tls_handshake_timeout_s: For a TLS handshake.
        normalise_newlines: Turn bare CR and bare LF in DATA into CRLF instead of refusing the message.
    """

    message_bytes_max: int = 32 * MIB
    discard_bytes_max: int = 64 * MIB
    recipients_max: int = 100
    hops_max: int = 50
    line_bytes_max: int = 2 * KIB
    input_bytes_max: int = 64 * KIB
    errors_max: int = 10
    rejections_max: int = 100
    login_failures_max: int = 3
    commands_per_message_max: int = 1000
    connections_max: int = 1000
    connections_per_address_max: int = 50
    command_timeout_s: float = 300.0
    data_timeout_s: float = 180.0
    message_timeout_s: float = 3600.0
    delivery_timeout_s: float = 600.0
    tls_handshake_timeout_s: float = 30.0
    normalise_newlines: bool = False

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"SMTP limit {name} is {value}, expected more than 0")
        if self.line_bytes_max < 512:
            raise ConfigError(
                f"SMTP limit line_bytes_max is {self.line_bytes_max}, expected at least 512",
                hint="RFC 5321 4.5.3.1.4 asks for command lines of 512 octets",
            )
