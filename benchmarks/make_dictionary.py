"""Make the dictionary that message bodies are compressed with, from sample mail that is written here.

::

    python -m benchmarks.make_dictionary spinrt/storage/mail-1.zdict

The same seed gives the same samples; training depends on the version of zstd too, so the file that a release had is
never made again but kept, and another one gets another number (docs/formats/log.md). The samples are what mail has in
common: fields of the header as servers write them, the frame of MIME and HTML, quoted text, frequent words of English,
German and French. No message of anybody is in them; names are reserved ones (RFC 2606, RFC 5737).
"""

# ruff: noqa: E501
# Lines of the samples are as long as those of mail are.

from __future__ import annotations

import base64
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zstandard

from spinrt.storage.compress import DICTIONARY_ID

SEED: Final = 1
SAMPLES: Final = 6000
DICTIONARY_BYTES: Final = 48 * 1024

WORDS: Final = {
    "en": """the of and to a in is that for it as was with be by on not he this are or his from at which but have an they
        you were her she all would there their we him been has when who will more no if out so said what up its about
        into than them can only other new some could time these two may then do first any my now such like our over man
        me even most made after also did many before must through back years where much your way well down should because
        each just those people how too little state good very make world still own see men work long get here between
        both life being under never day same another know while last might us great old year off come since against go
        came right used take three please thanks regards meeting attached report update order invoice account password
        project team week today tomorrow schedule change question problem version release patch file server message
        reply list subscribe unsubscribe privacy policy information contact customer service payment delivery available
        review comment request issue build failed passed error warning received sent forwarded original""",
    "de": """der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat
        dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr
        durch man sein wurde bitte vielen dank mit freundlichen grüßen anhang rechnung termin frage antwort woche""",
    "fr": """de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont avec son nous
        vous cette mais ou comme bonjour merci cordialement réunion facture pièce jointe semaine question réponse""",
}
HOSTS: Final = ("mail", "mx1", "mx2", "smtp", "relay", "out-17", "lists", "mailout", "mta-in3", "bounce")
DOMAINS: Final = (
    "example.org",
    "example.net",
    "example.com",
    "mail.example.org",
    "news.example.com",
    "lists.example.net",
)
AGENTS: Final = (
    "User-Agent: Mozilla Thunderbird",
    "X-Mailer: Apple Mail (2.3774.300.61.1.2)",
    "X-Mailer: Microsoft Outlook 16.0",
    "X-Mailer: git-send-email 2.43.0",
    "User-Agent: Mutt/2.2.12 (2023-09-09)",
    "User-Agent: Roundcube Webmail/1.6.5",
    "X-Mailer: PHPMailer 6.9.1 (https://github.com/PHPMailer/PHPMailer)",
)
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STYLE: Final = (
    "margin:0;padding:0;border:0;font-family:Arial,Helvetica,sans-serif;font-size:14px;line-height:20px;color:#333333"
)


class Sampler:
    """Gives sample messages, all of them from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.words = {language: text.split() for language, text in WORDS.items()}

    def message(self) -> bytes:
        """One message of a kind drawn at random."""
        kinds: tuple[Callable[[], str], ...] = (
            self._plain,
            self._plain,
            self._reply,
            self._both,
            self._attached,
            self._list,
        )
        text = self._header() + self.random.choice(kinds)()
        return text.replace("\n", "\r\n").encode()

    # --------------------------------------------------------------------------------------------------- small things

    def _pick(self, *values: str) -> str:
        return self.random.choice(values)

    def _token(self, size: int, alphabet: str = "0123456789abcdef") -> str:
        return "".join(self.random.choices(alphabet, k=size))

    def _number(self, last: int) -> int:
        return self.random.randint(1, last)

    def _host(self) -> str:
        return f"{self.random.choice(HOSTS)}.{self.random.choice(DOMAINS)}"

    def _address(self) -> str:
        return (
            f"{self._pick('alice', 'bob', 'info', 'noreply', 'support', 'news', 'user')}@{self.random.choice(DOMAINS)}"
        )

    def _date(self) -> str:
        day, month = self.random.choice(DAYS), self.random.choice(MONTHS)
        zone = self._pick("+0000", "+0000 (UTC)", "+0100", "+0200", "-0500", "-0700", "-0800 (PST)")
        hour, minute, second = self._number(23), self._number(59), self._number(59)
        return f"{day}, {self._number(28)} {month} 20{self.random.randint(19, 29)} {hour:02}:{minute:02}:{second:02} {zone}"

    def _ip(self) -> str:
        return f"{self._pick('192.0.2', '198.51.100', '203.0.113', '10.0.0')}.{self._number(254)}"

    def _base64(self, size: int) -> str:
        return base64.b64encode(self.random.randbytes(size)).decode()

    def _sentence(self, language: str) -> str:
        words = self.random.choices(self.words[language], k=self.random.randint(4, 16))
        return " ".join(words).capitalize() + self._pick(".", ".", ".", "?", "!", ",")

    def _text(self, prefix: str = "") -> str:
        language = self._pick("en", "en", "en", "de", "fr")
        lines: list[str] = []
        for _ in range(self.random.randint(2, 9)):
            words = " ".join(self._sentence(language) for _ in range(self.random.randint(1, 5))).split(" ")
            while words:
                lines.append(prefix + " ".join(words[:11]))
                words = words[11:]
            lines.append(prefix.rstrip())
        return "\n".join(lines) + "\n"

    # --------------------------------------------------------------------------------------------------------- headers

    def _header(self) -> str:
        received = "".join(self._received() for _ in range(self.random.randint(1, 4)))
        signed = self._dkim() if self.random.random() < 0.6 else ""
        results = self._results() if self.random.random() < 0.5 else ""
        path = (
            f"Return-Path: <{self._address()}>\nDelivered-To: {self._address()}\n" if self.random.random() < 0.6 else ""
        )
        who = f"From: {self._name()} <{self._address()}>\nTo: {self._name()} <{self._address()}>\n"
        subject = self._sentence(self._pick("en", "en", "de", "fr")).rstrip(".,")
        agent = self.random.choice(AGENTS) + "\n" if self.random.random() < 0.5 else ""
        return (
            f"{path}{received}{results}{signed}{who}Subject: {self._pick('', '', 'Re: ', 'Fwd: ', 'AW: ')}{subject}\n"
            f"Date: {self._date()}\nMessage-ID: <{self._token(24)}@{self._host()}>\n{agent}MIME-Version: 1.0\n"
        )

    def _name(self) -> str:
        return self._pick("Alice Example", "Bob Sample", '"Customer Service"', '"Example, Inc."', "No Reply", "Team")

    def _received(self) -> str:
        by = self._pick("ESMTPS", "ESMTP", "ESMTPSA", "LMTP", "SMTP", "HTTP")
        tls = self._pick(
            "\n\t(version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256)",
            "\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)\n\t key-exchange X25519 server-signature"
            " RSA-PSS (2048 bits) server-digest SHA256)\n\t(No client certificate requested)",
            "",
        )
        return (
            f"Received: from {self._host()} ({self._host()} [{self._ip()}])\n\tby {self._host()} ({self._pick('Postfix', 'Exim 4.96')})"
            f" with {by} id {self._token(11, '0123456789ABCDEF')}{tls}\n\tfor <{self._address()}>; {self._date()}\n"
        )

    def _results(self) -> str:
        domain = self.random.choice(DOMAINS)
        return (
            f"Authentication-Results: {self._host()};\n\tdkim=pass (2048-bit key; unprotected) header.d={domain}"
            f" header.i=@{domain} header.b={self._token(8)};\n\tspf=pass ({domain}: domain of {self._address()} designates"
            f" {self._ip()} as permitted sender) smtp.mailfrom={self._address()};\n\tdmarc=pass (p=REJECT sp=REJECT dis=NONE)"
            f" header.from={domain}\nReceived-SPF: Pass (mailfrom) identity=mailfrom; client-ip={self._ip()};\n"
            f"X-Spam-Status: No, score=-{self._number(9)}.{self._number(9)} required=5.0 tests=BAYES_00,DKIM_SIGNED,DKIM_VALID,\n"
            "\tDKIM_VALID_AU,HTML_MESSAGE,RCVD_IN_DNSWL_NONE,SPF_HELO_NONE,SPF_PASS,URIBL_BLOCKED autolearn=ham\n"
        )

    def _dkim(self) -> str:
        value = self._base64(256)
        folded = "\n\t ".join(value[start : start + 70] for start in range(0, len(value), 70))
        return (
            f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={self.random.choice(DOMAINS)}; s=selector1;\n"
            f"\tt={self._number(10**9)}; h=from:from:reply-to:subject:subject:date:date:message-id:message-id:to:to:cc:\n"
            "\t mime-version:mime-version:content-type:content-type:content-transfer-encoding:\n\t in-reply-to:references:"
            f"list-id:list-unsubscribe;\n\tbh={self._base64(32)};\n\tb={folded}\n"
        )

    # ---------------------------------------------------------------------------------------------------------- bodies

    def _plain(self) -> str:
        charset = self._pick("utf-8", "UTF-8", "us-ascii", "iso-8859-1")
        encoding = self._pick("7bit", "8bit", "quoted-printable")
        return (
            f"Content-Type: text/plain; charset={charset}; format=flowed\nContent-Transfer-Encoding: {encoding}\n"
            f"Content-Language: en-US\n\n{self._text()}\n-- \n{self._name()}\nhttps://www.{self.random.choice(DOMAINS)}/\n"
        )

    def _reply(self) -> str:
        identity = f"<{self._token(24)}@{self._host()}>"
        return (
            f"In-Reply-To: {identity}\nReferences: {identity}\nContent-Type: text/plain; charset=UTF-8\n"
            f"Content-Transfer-Encoding: 8bit\n\nOn {self._date()}, {self._name()} wrote:\n{self._text('> ')}\n{self._text()}"
        )

    def _list(self) -> str:
        name = self._pick("hackers", "users", "announce", "dev")
        at = f"{name}.lists.example.net"
        return (
            f"List-Id: <{at}>\nList-Unsubscribe: <https://lists.example.net/unsubscribe/{self._token(16)}>,\n"
            f" <mailto:{name}-request@lists.example.net?subject=unsubscribe>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n"
            f"List-Archive: <https://lists.example.net/archives/list/{at}/>\nList-Help: <mailto:{name}-request@lists.example.net"
            f"?subject=help>\nList-Post: <mailto:{name}@lists.example.net>\nPrecedence: list\nAuto-Submitted: auto-generated\n"
            f'Content-Type: text/plain; charset="us-ascii"\nContent-Transfer-Encoding: 7bit\n\n{self._text()}'
            "_______________________________________________\n"
            f"{name} mailing list -- {name}@lists.example.net\nTo unsubscribe send an email to {name}-leave@lists.example.net\n"
        )

    def _both(self) -> str:
        boundary = f"----=_Part_{self._number(10**6)}_{self._number(10**9)}.{self._number(10**12)}"
        return (
            f'Content-Type: multipart/alternative; \n\tboundary="{boundary}"\n\nThis is a multi-part message in MIME format.\n\n'
            f"--{boundary}\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n{self._text()}\n"
            f"--{boundary}\nContent-Type: text/html; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n{self._html()}\n"
            f"--{boundary}--\n"
        )

    def _attached(self) -> str:
        boundary = f"000000000000{self._token(16)}"
        kind, suffix = self.random.choice(
            (
                ("application/pdf", "pdf"),
                ("image/png", "png"),
                ("image/jpeg", "jpg"),
                ("application/octet-stream", "bin"),
            )
        )
        name = f"{self._pick('invoice', 'report', 'image001', 'document', 'scan')}.{suffix}"
        return (
            f'Content-Type: multipart/mixed; boundary="{boundary}"\n\n--{boundary}\nContent-Type: text/plain; charset="UTF-8"\n'
            f'Content-Transfer-Encoding: 7bit\n\n{self._text()}\n--{boundary}\nContent-Type: {kind}; name="{name}"\n'
            f'Content-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64\nX-Attachment-Id: f_{self._token(9)}\n'
            f"Content-ID: <f_{self._token(9)}>\n\n{self._base64(57)}\n--{boundary}--\n"
        )

    def _html(self) -> str:
        rows = "".join(self._row() for _ in range(self.random.randint(2, 6)))
        return (
            '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
            '<html xmlns=3D"http://www.w3.org/1999/xhtml">\n<head>\n<meta http-equiv=3D"Content-Type" content=3D"text/html; charset=3DUTF-8" />\n'
            '<meta name=3D"viewport" content=3D"width=3Ddevice-width, initial-scale=3D1.0" />\n<title></title>\n<style type=3D"text/css">\n'
            "@media only screen and (max-width: 600px) { .container { width: 100% !important; } }\na { text-decoration: none; }\n</style>\n"
            f'</head>\n<body style=3D"{STYLE}" bgcolor=3D"#ffffff">\n<table width=3D"100%" border=3D"0" cellspacing=3D"0" cellpadding=3D"0" '
            f'role=3D"presentation">\n{rows}</table>\n<p><a href=3D"https://www.{self.random.choice(DOMAINS)}/unsubscribe?id=3D{self._token(32)}"'
            ' target=3D"_blank">Unsubscribe</a>&nbsp;|&nbsp;<a href=3D"https://www.example.com/privacy">Privacy Policy</a></p>\n</body>\n</html>\n'
        )

    def _row(self) -> str:
        return (
            f'<tr>\n<td align=3D"{self._pick("left", "center")}" valign=3D"top" style=3D"{STYLE}">\n<div dir=3D"ltr">{self._sentence("en")}<br>'
            f'</div>\n<span style=3D"font-weight:bold;text-align:center;background-color:#f4f4f4;">{self._sentence("en")}</span>\n'
            f'<img src=3D"https://www.{self.random.choice(DOMAINS)}/images/{self._token(12)}.png" alt=3D"" width=3D"{self._number(600)}" height=3D"1"'
            ' style=3D"display:block;" /></td>\n</tr>\n'
        )


def main(path: Path) -> None:
    """Train on the samples and write the dictionary."""
    sampler = Sampler(SEED)
    samples: list[bytes | bytearray | memoryview] = [sampler.message() for _ in range(SAMPLES)]
    trained = zstandard.train_dictionary(DICTIONARY_BYTES, samples, dict_id=DICTIONARY_ID, level=3)
    path.write_bytes(trained.as_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
