"""Whole sessions as octets: for splitting, for pipelining, and as seeds for the fuzzer."""

from __future__ import annotations

PLAIN = b"AHVzZXIAc2VjcmV0"  # NUL user NUL secret

ENVELOPE = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"

SESSIONS: dict[str, bytes] = {
    "simple": ENVELOPE + b"DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n",
    "two": b"HELO c\r\n" + b"MAIL FROM:<>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n.\r\n" * 2 + b"QUIT\r\n",
    "parameters": (
        "EHLO c\r\nMAIL FROM:<ä@x.test> SIZE=20 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<ö@y.test>\r\nDATA\r\nü\r\n.\r\n"
    ).encode(),
    "chunks": ENVELOPE + b"BDAT 6\r\nab\r\n.\rBDAT 3\r\n\n\r\nBDAT 0 LAST\r\nQUIT\r\n",
    "chunk out of place": b"EHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nMAIL FROM:<a@x.test>\r\nBDAT 2\r\nxxBDAT x\r\nNOOP\r\n",
    "smuggling": (
        ENVELOPE + b"DATA\r\nx\n.\r\nMAIL FROM:<evil@x.test>\r\n\r.\r\n\r\n.\n"
        b"y\r\n.\r\nNOOP\r\n"
    ),
    "too large": ENVELOPE + b"DATA\r\n" + b"0123456789" * 12 + b"\r\n.\r\nNOOP\r\n",
    "far too large": ENVELOPE + b"DATA\r\n" + b"0123456789" * 40 + b"\r\n.\r\nNOOP\r\n",
    "loop": b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n" + b"Received: x\r\n" * 4 + b"\r\n.\r\nQUIT\r\n",
    "bad lines": b"EHLO c\r\nNOOP\nNO\0OP\r\nNOOP\r\r\nNOOP " + b"x" * 600 + b"\r\nBOGUS\r\nNOOP\r\n",
    "too many errors": b"BOGUS\r\n" * 12,
    "login": b"EHLO c\r\nAUTH PLAIN " + PLAIN + b"\r\nAUTH PLAIN\r\nNOOP\r\n",
    "login in steps": b"EHLO c\r\nAUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\nMAIL FROM:<a@x.test>\r\nRSET\r\n",
    "login refused": b"EHLO c\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN !\r\nAUTH LOGIN dXNlcg==\r\nd3Jvbmc=\r\nAUTH X\r\n",
    "login too long": b"EHLO c\r\nAUTH LOGIN\r\n" + b"A" * 600 + b"\r\nNOOP\r\n",
    "starttls": b"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<evil@x.test>\r\nRCPT TO:<b@y.test>\r\n",
    "refused": b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<no@y.test>\r\nDATA\r\nRCPT TO:<b@y.test>\r\nDATA\r\nhi\r\n.\r\n",
    "small commands": b"HELP\r\nVRFY x\r\nEXPN x\r\nNOOP x\r\nRSET\r\nGET / HTTP/1.1\r\nNOOP\r\n",
    "unfinished": ENVELOPE + b"DATA\r\nhalf\r\n.\r",
}  # fmt: skip

LMTP_SESSIONS: dict[str, bytes] = {
    "lmtp": (
        b"LHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<no@y.test>\r\nRCPT TO:<c>\r\nDATA\r\nhi\r\n.\r\n"
        b"MAIL FROM:<>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c>\r\nBDAT 2 LAST\r\nhiQUIT\r\n"
    ),
    "lmtp refused": b"EHLO c\r\nLHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b>\r\nRCPT TO:<c>\r\nDATA\r\na\nb\r\n.\r\nNOOP\r\n",
}
