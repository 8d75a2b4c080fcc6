# Records of extensions (spinrt/host/logging.py has the interface). A record that a guest wrote is kept as one block of bytes until
# somebody looks at it: most records of a busy server are below the level that is written.
#
# The block: count u16 of texts, length u16 of each, then the texts one after the other. The first text is the event, then come
# name and value of each field. Only ASCII is kept so; it needs no decoding to be known as valid.

cdef enum:
    FIELDS_MAX = 64
    TEXT_BYTES_MAX = 4096
    FIELD_BYTES = 16  # pointer and length of a name, and of a value


cdef bint _is_ascii(const uint8_t *text, size_t length) noexcept:
    cdef uint8_t seen = 0
    cdef size_t position
    for position in range(length):
        seen |= text[position]
    return seen < 0x80


@cython.final
cdef class LogRecord:
    """One record as an extension wrote it, an effect: it goes to its sink when the call is committed.

    Attributes:
        extension, time_ns: Who wrote it and when (nanoseconds since 1970-01-01 UTC), from the host.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        event, fields: The extension's own text; fields are pairs of name and value, in order.
    """

    cdef readonly str extension
    cdef readonly object time_ns
    cdef readonly str level
    cdef object sink
    cdef bytes block
    cdef str _event
    cdef tuple _fields

    def __init__(self, str extension not None, object time_ns, str level not None, str event not None, tuple fields not None, object sink=None):
        self.extension, self.time_ns, self.level, self.sink = extension, time_ns, level, sink
        self._event, self._fields = event, fields

    @property
    def event(self):
        self._unpack()
        return self._event

    @property
    def fields(self):
        self._unpack()
        return self._fields

    def apply(self):
        """Hand the record to its sink."""
        if self.sink is not None:
            self.sink(self)

    def __eq__(self, other):
        if type(other) is not LogRecord:
            return NotImplemented
        return self._parts() == (<LogRecord>other)._parts()

    def __hash__(self):
        return hash(self._parts())

    def __repr__(self):
        return f"LogRecord{self._parts()!r}"

    cdef tuple _parts(self):
        return self.extension, self.time_ns, self.level, self.event, self.fields

    cdef int _unpack(self) except -1:
        if self.block is None:
            return 0
        texts = unpack_texts(self.block)
        self._event = texts[0]
        self._fields = tuple([(texts[at], texts[at + 1]) for at in range(1, len(texts), 2)])
        self.block = None
        return 0


cdef list unpack_texts(bytes block):
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(block)
    cdef uint16_t count, length
    cdef size_t at, position
    memcpy(&count, start, 2)
    texts = []
    at = 2 * (<size_t>count + 1)
    for position in range(count):
        memcpy(&length, start + 2 + 2 * position, 2)
        texts.append(PyUnicode_DecodeUTF8(<const char *>start + at, length, NULL))
        at += length
    return texts


cdef struct Texts:
    # The texts of one record in guest memory, checked.
    uint32_t count
    uint64_t size  # of all
    uint32_t pointers[2 * FIELDS_MAX + 1]
    uint32_t lengths[2 * FIELDS_MAX + 1]


cdef bint take_text(Instance guest, Texts *texts, uint32_t pointer, uint32_t length) noexcept:
    """Enter one text; false when it is not one of the everyday kind."""
    cdef const uint8_t *text = bytes_at(guest, pointer, length)
    if text == NULL or length > TEXT_BYTES_MAX or not _is_ascii(text, length):
        return False
    texts.pointers[texts.count], texts.lengths[texts.count] = pointer, length
    texts.count += 1
    texts.size += length
    return True


cdef bytes pack_texts(Instance guest, const Texts *texts):
    cdef bytes block = PyBytes_FromStringAndSize(NULL, 2 * (<Py_ssize_t>texts.count + 1) + texts.size)
    cdef uint8_t *start = <uint8_t *>PyBytes_AS_STRING(block)
    cdef uint8_t *at = start + 2 * (<Py_ssize_t>texts.count + 1)
    cdef uint16_t number = <uint16_t>texts.count
    cdef uint32_t position
    memcpy(start, &number, 2)
    for position in range(texts.count):
        number = <uint16_t>texts.lengths[position]
        memcpy(start + 2 + 2 * position, &number, 2)
        memcpy(at, guest.base + texts.pointers[position], number)
        at += number
    return block


@cython.final
cdef class LogFunction(NativeFunction):
    """``write: func(level: level, event: string, fields: list<field>)``.

    Args:
        extension: Who writes.
        levels: Names of the levels, lowest first.
        written: Those of them that are written.
        sink: Where records go.
        now: Clock in nanoseconds since 1970.
        closure: Serves every other record, and refuses those that may not be.
    """

    cdef str extension
    cdef tuple levels
    cdef frozenset written
    cdef object sink
    cdef object now

    def __init__(self, str extension not None, tuple levels not None, frozenset written not None, object sink, object now, object closure not None):
        self._set("iiiii:", closure)
        self.extension, self.levels, self.written, self.sink, self.now = extension, levels, written, sink, now

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef Texts texts
        cdef uint64_t cost
        if guest.call is None or (<Call>guest.call).journal.room == 0 or raw[0].u32 >= <uint32_t>len(self.levels):
            return 0
        if not self._read(guest, raw, &texts):
            return 0
        cost = texts.size + <uint64_t>raw[4].u32 * (FIELD_BYTES + ELEMENT_COST)
        if cost > guest.g.lift_left:
            return 0
        guest.g.lift_left -= cost
        level = self.levels[raw[0].u32]
        if level in self.written:
            (<Call>guest.call).journal.add(self._record(level, pack_texts(guest, &texts)))
        return 1

    cdef bint _read(self, Instance guest, spin_raw *raw, Texts *texts) noexcept:
        """Check event and fields; false when the general way must look at them."""
        cdef uint32_t field[4]
        cdef uint32_t position
        cdef uint32_t count = raw[4].u32
        cdef const uint8_t *fields
        texts.count, texts.size = 0, 0
        if count > FIELDS_MAX or raw[3].u32 & 3 or not take_text(guest, texts, raw[1].u32, raw[2].u32):
            return False
        fields = bytes_at(guest, raw[3].u32, count * FIELD_BYTES)
        if fields == NULL:
            return False
        for position in range(count):
            memcpy(field, fields + position * FIELD_BYTES, FIELD_BYTES)
            if not take_text(guest, texts, field[0], field[1]) or not take_text(guest, texts, field[2], field[3]):
                return False
        return True

    cdef LogRecord _record(self, str level, bytes block):
        cdef LogRecord made = LogRecord.__new__(LogRecord)
        made.extension, made.level, made.sink, made.block = self.extension, level, self.sink, block
        made.time_ns = self.now()
        return made
