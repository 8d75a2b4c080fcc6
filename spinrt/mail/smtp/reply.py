"""SMTP replies: every one that the engine itself gives. How one is written is in the core (`Reply`).

A reply is chosen here, never by an error class. The enhanced status codes are those of RFC 3463 and its registry;
greeting, EHLO and 3xx replies carry none (RFC 2034 4).
"""

from __future__ import annotations

from spinrt import _core

Reply = _core.Reply

# ------------------------------------------------------------------------------------------------------- accepted

OK = Reply(250, "2.0.0", "OK")
SENDER_OK = Reply(250, "2.1.0", "sender OK")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient OK")
CHUNK_OK = Reply(250, "2.0.0", "chunk received")
MESSAGE_OK = Reply(250, "2.6.0", "message accepted")
BYE = Reply(221, "2.0.0", "closing connection")
READY_FOR_TLS = Reply(220, "2.0.0", "ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "authentication succeeded")
CANNOT_VERIFY = Reply(252, "2.0.0", "cannot verify; send the message to find out")
HELP = Reply(
    214, "2.0.0", "commands: AUTH BDAT DATA EHLO HELO HELP MAIL NOOP QUIT RCPT RSET STARTTLS VRFY\nsee RFC 5321"
)
HELP_LMTP = Reply(214, "2.0.0", "commands: BDAT DATA HELP LHLO MAIL NOOP QUIT RCPT RSET STARTTLS VRFY\nsee RFC 2033")
START_DATA = Reply(354, "", "end data with <CRLF>.<CRLF>")

# ------------------------------------------------------------------------------------- the connection is closed then

SHUTTING_DOWN = Reply(421, "4.3.2", "the server is shutting down, try again later")
TIMED_OUT = Reply(421, "4.4.2", "timed out, closing connection")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors, closing connection")
TOO_MANY_COMMANDS = Reply(421, "4.7.0", "too many commands without a message, closing connection")
TOO_MANY_CONNECTIONS = Reply(421, "4.7.0", "too many connections from your address, try again later")
SERVER_BUSY = Reply(421, "4.3.2", "too many connections, try again later")
SERVER_FAULT = Reply(421, "4.3.0", "internal error, closing connection")
NOT_SMTP = Reply(521, "5.5.1", "this is a mail server, closing connection")
CHUNK_MALFORMED = Reply(521, "5.5.4", "malformed BDAT, closing connection; write BDAT size [LAST]")

# ------------------------------------------------------------------------------------------------- refused for now

STORAGE_UNAVAILABLE = Reply(452, "4.3.1", "no room to store the message now, try again later")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients, send the rest in another transaction")
DELIVERY_FAULT = Reply(451, "4.3.0", "internal error, try again later")
LOGIN_LATER = Reply(454, "4.7.0", "too many failed logins, try again later")

# ------------------------------------------------------------------------------------------------ refused for good

UNKNOWN_COMMAND = Reply(500, "5.5.2", "command not recognised")
WRONG_GREETING_SMTP = Reply(500, "5.5.1", "this is SMTP, say EHLO")
WRONG_GREETING_LMTP = Reply(500, "5.5.1", "this is LMTP, say LHLO")
BARE_LINE = Reply(500, "5.5.2", "a command line ends in CRLF and holds no control characters")
LINE_TOO_LONG = Reply(500, "5.5.2", "command line too long")
RESPONSE_TOO_LONG = Reply(500, "5.5.6", "authentication response too long")
ARGUMENT_UNEXPECTED = Reply(501, "5.5.4", "this command takes no argument")
ARGUMENT_MISSING = Reply(501, "5.5.4", "argument missing")
HELO_MALFORMED = Reply(501, "5.5.4", "say who you are: a domain or an address literal")
SENDER_SYNTAX = Reply(501, "5.5.4", "write MAIL FROM:<address> [parameters]")
SENDER_MALFORMED = Reply(501, "5.1.7", "malformed sender address")
RECIPIENT_SYNTAX = Reply(501, "5.5.4", "write RCPT TO:<address>")
RECIPIENT_MALFORMED = Reply(501, "5.1.3", "malformed recipient address")
PARAMETER_MALFORMED = Reply(501, "5.5.4", "malformed parameter")
PARAMETER_REPEATED = Reply(501, "5.5.4", "the same parameter twice")
SIZE_MALFORMED = Reply(501, "5.5.4", "malformed SIZE")
BODY_UNKNOWN = Reply(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
AUTH_CANCELLED = Reply(501, "5.7.0", "authentication cancelled")
AUTH_MALFORMED = Reply(501, "5.5.2", "malformed authentication response")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "command not implemented")
HELO_FIRST = Reply(503, "5.5.1", "say EHLO first")
MAIL_FIRST = Reply(503, "5.5.1", "need MAIL first")
RECIPIENT_FIRST = Reply(503, "5.5.1", "need RCPT first")
NO_RECIPIENTS = Reply(554, "5.5.1", "no valid recipients")
OUT_OF_PLACE = Reply(503, "5.5.1", "command out of sequence")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already")
AUTH_ALREADY = Reply(503, "5.5.1", "authenticated already")
MECHANISM_UNKNOWN = Reply(504, "5.5.4", "authentication mechanism not supported")
TLS_NEEDED = Reply(538, "5.7.11", "encryption required, say STARTTLS first")
LOGIN_REFUSED = Reply(535, "5.7.8", "user name or password is wrong")
MESSAGE_TOO_LARGE = Reply(552, "5.3.4", "message too large")
UTF8_NEEDED = Reply(553, "5.6.7", "a non-ASCII address needs SMTPUTF8")
BARE_NEWLINE = Reply(554, "5.6.11", "message has a bare CR or a bare LF, lines end in CRLF")
LOOP = Reply(554, "5.4.6", "too many hops, this message is looping")


def unknown_parameter(name: str) -> Reply:
    """555 for a parameter that was not offered, by name (RFC 5321 4.1.1.11)."""
    return Reply(555, "5.5.4", f"parameter {name[:32]} is not supported")
