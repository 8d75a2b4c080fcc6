# Fields of log records as bytes. All numbers are big-endian; docs/formats/mail-records.md spells the rest out.

cdef extern from "Python.h":
    # Without Cython's look at the error: one that is set is found by doing it again.
    const char *quick_utf8 "PyUnicode_AsUTF8AndSize"(object text, Py_ssize_t *size)
    uint64_t quick_u64 "PyLong_AsUnsignedLongLong"(object value)

cdef enum:
    WRITER_ROOM = 512
    DIGEST_OCTETS = 32
    BODY_FRONT = DIGEST_OCTETS + 8 + 4  # digest, size, count of extents
    EXTENT_OCTETS = 16

cdef uint64_t U32_MAX = 0xFFFFFFFF


cdef inline void _put_u32(char *out, uint32_t value) noexcept:
    out[0] = <char>(value >> 24)
    out[1] = <char>(value >> 16)
    out[2] = <char>(value >> 8)
    out[3] = <char>value


cdef inline void _put_u64(char *out, uint64_t value) noexcept:
    _put_u32(out, <uint32_t>(value >> 32))
    _put_u32(out + 4, <uint32_t>value)


cdef inline uint32_t _get_u32(const unsigned char *data) noexcept:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]


cdef inline uint64_t _get_u64(const unsigned char *data) noexcept:
    return (<uint64_t>_get_u32(data) << 32) | _get_u32(data + 4)


@cython.final
cdef class RecordWriter:
    """Collects the fields of one record, the first of which is a u8 version.

    ``text`` is a u32 count of bytes and UTF-8; ``blob`` a u32 count and bytes; ``numbers`` a u32 count and that many u32;
    ``option`` a u8 0 or 1 and, after 1, the value; a list is a u32 count and its items.

    Raises:
        UsageError: From every method, when a value is outside its range, or a text is not Unicode.
    """

    cdef char *data
    cdef Py_ssize_t size
    cdef Py_ssize_t room

    def __cinit__(self, object version):
        self.room = WRITER_ROOM
        self.data = <char *>malloc(self.room)
        if self.data == NULL:
            raise MemoryError()
        self.u8(version)

    def __dealloc__(self):
        free(self.data)

    cdef char *extend(self, Py_ssize_t count) except NULL:
        """Make room for so many bytes more, count them as written, and return where they go."""
        cdef char *moved
        if count > self.room - self.size:
            moved = <char *>realloc(self.data, 2 * (self.size + count))
            if moved == NULL:
                raise MemoryError()
            self.data = moved
            self.room = 2 * (self.size + count)
        self.size += count
        return self.data + self.size - count

    cpdef u8(self, object value):
        self.extend(1)[0] = <char>_unsigned(value, 255)

    cpdef u32(self, object value):
        _put_u32(self.extend(4), <uint32_t>_unsigned(value, U32_MAX))

    cpdef u64(self, object value):
        _put_u64(self.extend(8), _unsigned(value, <uint64_t>-1))

    cpdef i32(self, object value):
        _put_u32(self.extend(4), <uint32_t>_signed(value, 31))

    cpdef i64(self, object value):
        _put_u64(self.extend(8), <uint64_t>_signed(value, 63))

    cpdef blob(self, bytes value):
        cdef Py_ssize_t count = len(value)
        cdef char *out = self.extend(self.count(count) + count)
        _put_u32(out, <uint32_t>count)
        memcpy(out + 4, PyBytes_AS_STRING(value), count)

    cdef Py_ssize_t count(self, Py_ssize_t count) except -1:
        """Check that a count fits, and return the bytes that it takes."""
        if <uint64_t>count > U32_MAX:
            raise UsageError(f"value {count} cannot be stored: a count is at most {U32_MAX}")
        return 4

    cpdef text(self, str value):
        cdef Py_ssize_t count
        cdef const char *octets = quick_utf8(value, &count)
        if octets == NULL:
            PyErr_Clear()
            raise _no_text(value)
        cdef char *out = self.extend(self.count(count) + count)
        _put_u32(out, <uint32_t>count)
        memcpy(out + 4, octets, count)

    def all_texts(self, tuple values not None):
        """Write several texts, one after the other; `texts` writes their count first."""
        for value in values:
            self.text(value)

    cdef int put_count(self, Py_ssize_t count) except -1:
        self.count(count)
        _put_u32(self.extend(4), <uint32_t>count)
        return 0

    cpdef texts(self, tuple values):
        self.put_count(len(values))
        for value in values:
            self.text(value)

    def numbers(self, object values):
        self.u32(len(values))
        for value in values:
            self.u32(value)

    def items(self, object values, object write):
        self.u32(len(values))
        for value in values:
            write(value)

    def option(self, object value, object write):
        self.u8(value is not None)
        if value is not None:
            write(value)

    cpdef body(self, object body):
        """Write a message body: digest (32 bytes), size u64, list of extents (u64, u32, u32), prefix as blob."""
        digest, size, extents, prefix = body
        cdef bytes octets = digest
        if len(octets) != DIGEST_OCTETS:
            raise UsageError(f"body digest: {len(octets)} bytes, expected {DIGEST_OCTETS}")
        memcpy(self.extend(DIGEST_OCTETS), PyBytes_AS_STRING(octets), DIGEST_OCTETS)
        self.u64(size)
        self.put_count(len(extents))
        for position, offset, length in extents:
            self.u64(position)
            self.u32(offset)
            self.u32(length)
        self.blob(prefix)

    cpdef deliver(self, object change):
        """Write the fields of a ``Deliver`` (spinrt.mail.store.model) in their order."""
        delivery_id, protocol, peer, sender, recipients, body, copies, received_s, outbound, kv, tags = change
        self.text(delivery_id)
        self.text(protocol)
        self.text(peer)
        self.text(sender)
        self.texts(recipients)
        self.body(body)
        self.put_count(len(copies))
        for user, mailbox, flags, prefix in copies:
            self.text(user)
            self.text(mailbox)
            self.texts(flags)
            self.blob(prefix)
        self.i64(received_s)
        self.put_count(len(outbound))
        for leaving in outbound:
            self.outbound(leaving)
        self.put_count(len(kv))
        for write in kv:
            self.kv(write)
        self.put_count(len(tags))
        for extension, key, value in tags:
            self.text(extension)
            self.text(key)
            self.blob(value)

    cdef int outbound(self, object leaving) except -1:
        """Write the fields of an ``Outbound``."""
        self.text(leaving.kind)
        self.text(leaving.extension)
        self.text(leaving.sender)
        self.text(leaving.recipient)
        self.u8(leaving.body is not None)
        if leaving.body is not None:
            self.body(leaving.body)
        self.blob(leaving.text)
        return 0

    cpdef kv(self, object write):
        """Write the fields of a ``KvWrite``."""
        self.text(write.space)
        self.text(write.key)
        self.u8(write.value is not None)
        if write.value is not None:
            self.blob(write.value)

    def take(self):
        """Return what was written."""
        return PyBytes_FromStringAndSize(self.data, self.size)


def encode_deliver(object version, object change):
    """Return the body of a ``Deliver``'s record: what `RecordWriter` gives for its version and fields. Raises UsageError."""
    cdef RecordWriter writer = RecordWriter(version)
    writer.deliver(change)
    return PyBytes_FromStringAndSize(writer.data, writer.size)


def encode_body(object body):
    """Return a body as `RecordWriter.body` writes it, without a version. Raises UsageError.

    A bytearray, as of `encode_placed`: ``sqlite3`` looks for an adapter of each bytes object that is bound, which costs more than
    binding it.
    """
    cdef RecordWriter writer = RecordWriter(0)
    writer.body(body)
    return PyByteArray_FromStringAndSize(writer.data + 1, writer.size - 1)


def count_body(object encoded not None, dict refs not None, dict sizes not None, int change):
    """Add ``change`` to the count of each log record that an encoded body is made of, and note how long that is.

    Args:
        encoded: What `encode_body` gave, as bytes or bytearray.
        refs: Position of a record → what is added to its count.
        sizes: Position of a record → bytes of it up to the end of the extent.

    Raises:
        CorruptRecord: Not an encoded body; nothing was counted.
    """
    cdef const unsigned char *data
    cdef Py_ssize_t size
    cdef uint32_t count, number
    if type(encoded) is bytearray:
        data, size = <const unsigned char *>PyByteArray_AS_STRING(encoded), PyByteArray_GET_SIZE(encoded)
    elif type(encoded) is bytes:
        data, size = <const unsigned char *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded)
    else:
        raise UsageError(f"body: found {type(encoded).__name__}, expected bytes or bytearray")
    if size < BODY_FRONT:
        raise CorruptRecord(f"body in the index: found {size} bytes, expected {BODY_FRONT} or more")
    count = _get_u32(data + BODY_FRONT - 4)
    if <uint64_t>(size - BODY_FRONT) < <uint64_t>count * EXTENT_OCTETS:
        raise CorruptRecord(f"body in the index: found {size} bytes, expected {count} extents in them")
    data += BODY_FRONT
    for number in range(count):
        position = _get_u64(data)
        refs[position] = refs.get(position, 0) + change
        sizes[position] = <uint64_t>_get_u32(data + 8) + _get_u32(data + 12)
        data += EXTENT_OCTETS


def stored_bytes(object body not None):
    """Return the bytes that prefix and extents of a body have: what its size must be."""
    _, _, extents, prefix = body
    total = len(prefix)
    for _, _, length in extents:
        total += length
    return total


def encode_placed(object placed, object queued):
    """Return what a delivery gave, as the index keeps it: a list of (text, text, u64, u32), a list of u64."""
    cdef RecordWriter writer = RecordWriter(0)
    writer.u32(len(placed))
    for user, mailbox, mailbox_id, uid in placed:
        writer.text(user)
        writer.text(mailbox)
        writer.u64(mailbox_id)
        writer.u32(uid)
    writer.u32(len(queued))
    for queue_id in queued:
        writer.u64(queue_id)
    return PyByteArray_FromStringAndSize(writer.data + 1, writer.size - 1)


cdef uint64_t _unsigned(object value, uint64_t most) except? 1:
    """Return a number of 0 … ``most``. Raises UsageError."""
    cdef uint64_t number = quick_u64(value)
    if number == <uint64_t>-1 and PyErr_Occurred() != NULL:
        PyErr_Clear()
        number = _slow_unsigned(value, most)
    if number > most:
        raise _outside(value, 0, most)
    return number


cdef uint64_t _slow_unsigned(object value, uint64_t most) except? 1:
    try:
        return PyLong_AsUnsignedLongLong(value)
    except (OverflowError, TypeError):
        raise _outside(value, 0, most) from None


cdef _no_text(object value):
    """What is wrong with a text that has no UTF-8."""
    cdef Py_ssize_t count
    try:
        PyUnicode_AsUTF8AndSize(value, &count)
    except UnicodeEncodeError:
        return UsageError(f"text {ascii(value)[:80]}: not Unicode, cannot be stored")
    return MemoryError()  # there was none a moment ago


cdef int64_t _signed(object value, int bits) except? 1:
    """Return a number that fits into so many bits and a sign. Raises UsageError."""
    cdef int64_t number
    cdef object most = (1 << bits) - 1
    try:
        number = PyLong_AsLongLong(value)
    except (OverflowError, TypeError):
        raise _outside(value, -most - 1, most) from None
    if bits < 63 and (number > <int64_t>most or number < -<int64_t>most - 1):
        raise _outside(value, -most - 1, most)
    return number


cdef _outside(object value, object least, object most):
    return UsageError(f"value {value!r:.80} cannot be stored: expected a number of {least} … {most}")
