# The octets of an SMTP message on their way in: end of data, dots, newlines, hops. One pass each, by whole buffers.
#
# After DATA, a message is lines that end in CRLF; a line of one dot ends it; a dot in front of any other line is taken
# away (RFC 5321 4.5.2). *Only* CRLF ends a line here. ``LF . LF``, ``LF . CRLF``, ``CRLF . LF``, ``CR . CR`` and the like
# are content: taking one of them for the end is how a second message is smuggled inside the first.
#
# What lies between two buffers is one of five places, and at most one CR is held back: the output does not depend on how
# the octets were cut. tests/mail/smtp/reference_data.py says the same with searches over whole messages.

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *octets, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **octets, Py_ssize_t size) except -1


cdef enum Place:
    PLACE_LINE      # at the start of a line
    PLACE_TEXT      # inside a line
    PLACE_CR        # behind a CR that is not given out yet
    PLACE_DOT       # behind a dot at the start of a line; it is dropped whatever follows
    PLACE_DOT_CR    # behind CRLF . CR; the CR is not given out yet


@cython.final
cdef class DataDecoder:
    """Decoder of one DATA stream.

    Attributes:
        finished: The end was found.
        rest: Octets of the last input that lie behind the end; they are commands.
        bare: A bare CR or a bare LF was found (also when it was turned into CRLF).
    """

    cdef readonly bint finished
    cdef readonly bint bare
    cdef readonly Py_ssize_t rest
    cdef bint normalise
    cdef Place place

    def __init__(self, *, bint normalise):
        self.normalise = normalise
        self.place = PLACE_LINE

    cpdef bytes feed(self, bytes data, Py_ssize_t start=0):
        """Take the octets from ``start`` on and return the content that is certain now, perhaps none.

        Must not be called after `finished`.

        Cost: two searches over the octets and one copy of them.
        """
        if data is None or not 0 <= start <= PyBytes_GET_SIZE(data):
            raise UsageError(f"data decoder: found start {start}, expected one inside of the octets")
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - start
        cdef PyObject *raw = new_bytes(NULL, size + 1)  # one for the CR that may be held
        cdef const char *first = PyBytes_AS_STRING(data) + start
        _PyBytes_Resize(&raw, self.decode(first, first + size, PyBytes_AS_STRING(<object>raw)))
        cdef bytes content = <bytes>raw
        Py_DECREF(content)
        if self.bare and self.normalise:
            return _with_crlf(content)
        return content

    cdef Py_ssize_t decode(self, const char *at, const char *end, char *out) noexcept:
        """Write the content to ``out`` and return its length."""
        cdef char *begin = out
        cdef const char *run = at   # what is to be copied begins here
        cdef const char *lf = NULL  # the next LF, or the end
        cdef const char *cr
        while at < end:
            if self.place == PLACE_TEXT:
                if lf < at:
                    lf = <const char *>memchr(at, c'\n', end - at)
                    if lf == NULL:
                        lf = end
                cr = <const char *>memchr(at, c'\r', lf - at)
                if cr == NULL:
                    self.bare |= lf < end
                    at = lf + (lf < end)
                elif cr + 1 == end:
                    out = _copy_run(out, run, cr)
                    at = run = end
                    self.place = PLACE_CR
                elif cr + 1 == lf:
                    at = lf + 1
                    self.place = PLACE_LINE
                else:
                    self.bare = True
                    at = cr + 1
            elif self.place == PLACE_LINE:
                if at[0] == c'.':
                    out = _copy_run(out, run, at)
                    at += 1
                    run = at
                    self.place = PLACE_DOT
                else:
                    self.place = PLACE_TEXT
            elif self.place == PLACE_DOT:
                if at[0] == c'\r':
                    at += 1
                    run = at
                    self.place = PLACE_DOT_CR
                else:
                    self.place = PLACE_TEXT
            elif self.place == PLACE_DOT_CR and at[0] == c'\n':
                self.finished = True
                self.rest = end - at - 1
                return out - begin
            else:
                out[0] = c'\r'
                out += 1
                if self.place == PLACE_CR and at[0] == c'\n':
                    at += 1
                    self.place = PLACE_LINE
                else:
                    self.bare = True
                    self.place = PLACE_TEXT
        return _copy_run(out, run, end) - begin


cdef inline char *_copy_run(char *out, const char *run, const char *end) noexcept:
    memcpy(out, run, end - run)
    return out + (end - run)


cdef bytes _with_crlf(bytes content):
    """Turn each bare CR and each bare LF into CRLF."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(content), index
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, 2 * size)
    cdef const char *octets = PyBytes_AS_STRING(content)
    cdef char *out = PyBytes_AS_STRING(whole)
    cdef char before = 0
    for index in range(size):
        if octets[index] == c'\n' and before != c'\r':
            out[0] = c'\r'
            out += 1
        elif before == c'\r' and octets[index] != c'\n':
            out[0] = c'\n'
            out += 1
        before = out[0] = octets[index]
        out += 1
    if before == c'\r':
        out[0] = c'\n'
        out += 1
    return whole[:out - PyBytes_AS_STRING(whole)]


cdef const char *RECEIVED = b"received:"
cdef int RECEIVED_LENGTH = 9


@cython.final
cdef class HopCounter:
    """Counts the ``Received:`` fields of a message that arrives in pieces; stops at the end of the header section.

    Bare LF counts as a line end here, because BDAT keeps it.
    """

    cdef readonly uint32_t hops
    cdef readonly bint complete
    cdef int matched        # octets of the name that the line has so far; -1: it is another line
    cdef bint lone_cr       # the line so far is one CR

    cpdef feed(self, bytes content):
        """Count in the next octets. Cost: nothing once `complete`."""
        if content is None:
            raise UsageError("hop counter: found no octets")
        cdef const char *at = PyBytes_AS_STRING(content)
        cdef const char *end = at + PyBytes_GET_SIZE(content)
        cdef uint8_t octet
        cdef bint same
        while at < end and not self.complete:
            if self.matched < 0 and not self.lone_cr:
                at = <const char *>memchr(at, c'\n', end - at)
                if at == NULL:
                    return
            octet = <uint8_t>at[0]
            at += 1
            if octet == c'\n':
                self.complete = self.matched == 0 or self.lone_cr
                self.matched = 0
                self.lone_cr = False
            elif octet == c'\r' and self.matched == 0:
                self.matched = -1
                self.lone_cr = True
            else:
                self.lone_cr = False
                same = self.matched >= 0 and _lower(octet) == <uint8_t>RECEIVED[self.matched]
                self.matched = self.matched + 1 if same else -1
                if self.matched == RECEIVED_LENGTH:
                    self.hops += 1
                    self.matched = -1


class Fault(_Enum):
    """What is wrong with a message, the gravest first."""

    TOO_LARGE = 1
    BARE_NEWLINE = 2
    LOOP = 3
    STORAGE = 4


cdef object FAULT_TOO_LARGE = Fault.TOO_LARGE
cdef object FAULT_BARE_NEWLINE = Fault.BARE_NEWLINE
cdef object FAULT_LOOP = Fault.LOOP
cdef object FAULT_STORAGE = Fault.STORAGE


@cython.final
cdef class Transfer:
    """A message being received: counted, judged, and let go of when something is wrong with it.

    What is wrong with it is asked at its end, so that the answer does not depend on how the octets were cut.

    Attributes:
        size: Octets so far, those that were thrown away included.
        bare: A bare CR or LF was seen where none may be.
        hopeless: More was sent behind a message that is too large than anyone needs to take.
    """

    cdef readonly uint64_t size
    cdef public bint bare
    cdef object sink
    cdef bint storage_failed
    cdef HopCounter hops
    cdef uint64_t bytes_max
    cdef uint64_t discard_max
    cdef uint32_t hops_max

    def __init__(self, object sink, object limits):
        """``limits`` are ``SmtpLimits``; ``sink`` none: there was no room to begin with; the octets are only counted."""
        self.sink = sink
        self.storage_failed = sink is None
        self.hops = HopCounter()
        self.bytes_max = limits.message_bytes_max
        self.discard_max = limits.discard_bytes_max
        self.hops_max = limits.hops_max

    cpdef write(self, bytes content):
        """Pass octets on, as long as nothing is wrong."""
        if content is None:
            raise UsageError("message transfer: found no octets")
        self.size += PyBytes_GET_SIZE(content)
        if not self.hops.complete:
            self.hops.feed(content)
        if self.sink is None:
            return
        if self.fault() is not None:
            self.abort()
            return
        try:
            self.sink.write(content)
        except StorageError:
            self.storage_failed = True
            self.abort()

    cpdef fault(self):
        """What is wrong with the message so far, or none."""
        if self.size > self.bytes_max:
            return FAULT_TOO_LARGE
        if self.bare:
            return FAULT_BARE_NEWLINE
        if self.hops.hops > self.hops_max:
            return FAULT_LOOP
        return FAULT_STORAGE if self.storage_failed else None

    @property
    def hopeless(self):
        return self.is_hopeless()

    cdef bint is_hopeless(self) noexcept:
        return self.size > self.bytes_max + self.discard_max

    cpdef abort(self):
        """Let go of the sink. May be called again."""
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.abort()

    def release(self):
        """Hand the sink to whoever delivers. Only without a `fault`."""
        sink, self.sink = self.sink, None
        if sink is None:
            raise StateError("message transfer: found no sink to release, expected one")
        return sink
