# One SMTP reply and its wire form. Every reply that the engine gives itself is in spinrt/mail/smtp/reply.py.

import re as _re

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)

cdef enum:
    REPLY_TEXT_MAX = 480    # characters of text on one line, so that it stays below 512 octets (RFC 5321 4.5.3.1.5)

REPLY_LINES_MAX = 32
"""Lines of one reply; the rest is left out."""

cdef object _unprintable = _re.compile(r"[^ -~]")


@cython.final
cdef class Reply:
    """One reply, perhaps of several lines (``\\n`` in the text).

    Text may come from an extension: whatever it holds, the wire form is printable ASCII in lines of bounded length.

    Attributes:
        code: 200 to 599.
        enhanced: ``2.1.5`` or the like, repeated on each line; empty for none.
        text: For people.
        wire: The octets to send, CRLF included.
    """

    cdef readonly int code
    cdef readonly str enhanced
    cdef readonly str text
    cdef readonly bytes wire

    def __init__(self, int code, str enhanced not None, str text not None):
        self.code, self.enhanced, self.text = code, enhanced, text
        self.wire = _plain_wire(code, enhanced, text)
        if self.wire is None:
            self.wire = _encode_lines(code, f"{enhanced} " if enhanced else "", text)

    def __eq__(self, other):
        if type(other) is not Reply:
            return NotImplemented
        return self.parts() == (<Reply>other).parts()

    def __hash__(self):
        return hash(self.parts())

    def __repr__(self):
        return f"Reply(code={self.code!r}, enhanced={self.enhanced!r}, text={self.text!r})"

    cdef tuple parts(self):
        return self.code, self.enhanced, self.text


cdef bytes _plain_wire(int code, str enhanced, str text):
    """A reply of one line and of printable ASCII; none for any other."""
    cdef Py_ssize_t mark, length
    cdef bytes wire
    cdef char *out
    cdef const char *enhanced_octets
    cdef const char *octets
    if not PyUnicode_IS_ASCII(text) or not PyUnicode_IS_ASCII(enhanced) or not 100 <= code <= 999:
        return None
    enhanced_octets = PyUnicode_AsUTF8AndSize(enhanced, &mark)
    octets = PyUnicode_AsUTF8AndSize(text, &length)
    if length > REPLY_TEXT_MAX or not _is_printable(octets, length):
        return None
    wire = PyBytes_FromStringAndSize(NULL, 4 + mark + (mark > 0) + length + 2)
    out = PyBytes_AS_STRING(wire)
    out[0], out[1], out[2], out[3] = c'0' + code // 100, c'0' + code // 10 % 10, c'0' + code % 10, c' '
    out += 4
    if mark:
        memcpy(out, enhanced_octets, mark)
        out[mark] = c' '
        out += mark + 1
    memcpy(out, octets, length)
    out[length], out[length + 1] = c'\r', c'\n'
    return wire


cdef bint _is_printable(const char *text, Py_ssize_t length) noexcept:
    cdef Py_ssize_t index
    for index in range(length):
        if not 32 <= text[index] < 127:
            return False
    return True


cdef bytes _encode_lines(int code, str mark, str text):
    lines = [_unprintable.sub("?", line)[:REPLY_TEXT_MAX] for line in text.splitlines()[:REPLY_LINES_MAX]] or [""]
    last = len(lines) - 1
    whole = "".join([f"{code}{' ' if index == last else '-'}{mark}{line}\r\n" for index, line in enumerate(lines)])
    return whole.encode("ascii")
