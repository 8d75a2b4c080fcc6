# A message that is lent to guests, and its reads that are served in C (spinrt/mail/host/message.py has the interface).

cdef enum:
    SECTION_CHUNK_BYTES = 16 * 1024
    SECTION_BYTES_MAX = 4 * 1024 * 1024
    FIELDS_KEPT = 32            # more than most mail has, in 1 KiB; what comes behind them is looked for line by line


@cython.final
cdef class LentMessage:
    """A message that extensions may read until `take_back`. Passed to guests as the resource ``message``.

    Its beginning, with the header section, is read once, when something of it is asked for; what lies in there costs the source nothing
    from then on, whoever reads it. The section's end is looked for in the first 4 MiB; beyond them the message counts as one without a body.

    Args:
        read: ``read(offset, length)`` gives at most that many bytes of the message, fewer at its end.
        size: Bytes of the message.

    Attributes:
        lent: Whether it may be read.
    """

    cdef object source
    cdef bytes held             # the beginning
    cdef Py_ssize_t section_size  # of that; -1: not looked for yet
    cdef Field *fields          # the first fields of the section, for all who ask for one by its name
    cdef uint32_t field_count
    cdef const uint8_t *rest    # where the others begin; NULL: they were not looked for yet
    cdef readonly uint64_t size
    cdef readonly bint lent
    cdef uint32_t cursor        # number of the field that starts at `cursor_offset`, so that listing all fields is linear
    cdef Py_ssize_t cursor_offset

    def __init__(self, object read not None, uint64_t size):
        self.source, self.size, self.section_size = read, size, -1
        self.lent = True

    def __dealloc__(self):
        free(self.fields)

    def take_back(self):
        """End the loan: whoever still holds the message can do nothing with it."""
        self.lent = False
        self.held, self.section_size = None, -1
        self.field_count, self.rest = 0, NULL

    def read(self, uint64_t offset, uint64_t length):
        """At most ``length`` bytes from ``offset``."""
        cdef bytes beginning
        cdef uint64_t held
        if offset >= self.size:
            return b""
        if offset < SECTION_CHUNK_BYTES:
            beginning = self.beginning()
            held = PyBytes_GET_SIZE(beginning)
            if offset + min(length, self.size - offset) <= held:
                return beginning[offset : offset + min(length, held - offset)]
        return self.source(offset, length)

    @property
    def section(self):
        """The header section, with the empty line at its end."""
        return self.headers()[: self.section_size]

    cdef bytes beginning(self):
        """What was read of the message by now, from its first byte on: at least a chunk, if it is as long as that."""
        cdef bytes data
        if self.held is None:
            data = self.source(0, min(<uint64_t>SECTION_CHUNK_BYTES, self.size))
            if self.held is None:  # the source may have asked for something, too
                self.held = data
        return self.held

    cdef bytes headers(self):
        """The beginning, in which `section_size` bytes are the header section."""
        if self.section_size < 0:
            self._find_section()
        return self.held

    cdef int _find_section(self) except -1:
        cdef uint64_t length = SECTION_CHUNK_BYTES
        cdef bytes data = self.beginning()
        cdef Py_ssize_t end
        while True:
            end = section_end(<const uint8_t *>PyBytes_AS_STRING(data), 0, PyBytes_GET_SIZE(data))
            if end >= 0 or <uint64_t>PyBytes_GET_SIZE(data) >= self.size or length >= SECTION_BYTES_MAX:
                self.held, self.section_size = data, end if end >= 0 else PyBytes_GET_SIZE(data)
                return 0
            length *= 4
            data = self.source(0, min(length, self.size))
            if self.section_size >= 0:  # the source found it: `fields` point into what is held by now
                return 0

    cdef bint find(self, Field *field, const uint8_t *name, size_t length, uint32_t nth) except -1:
        """As `find_field`, in the section, which was found before."""
        cdef uint32_t position
        if self.rest == NULL:
            self._find_fields()
        for position in range(self.field_count):
            if <size_t>(self.fields[position].name_end - self.fields[position].name) == length and _same_name(self.fields[position].name, name, length):
                if nth == 0:
                    field[0] = self.fields[position]
                    return True
                nth -= 1
        return find_field(field, self.rest, <const uint8_t *>PyBytes_AS_STRING(self.held) + self.section_size, name, length, nth)

    cdef int _find_fields(self) except -1:
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(self.held)
        cdef const uint8_t *end = at + self.section_size
        if self.fields == NULL:
            self.fields = <Field *>malloc(FIELDS_KEPT * sizeof(Field))
            if self.fields == NULL:
                raise MemoryError
        while self.field_count < FIELDS_KEPT and next_field(&self.fields[self.field_count], at, end):
            at = self.fields[self.field_count].end + 1
            self.field_count += 1
        self.rest = at if self.field_count == FIELDS_KEPT else end
        return 0

    def header_count(self):
        """Number of header fields."""
        cdef bytes section = self.headers()
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(section)
        cdef const uint8_t *end = at + self.section_size
        cdef Field field
        cdef uint32_t count = 0
        while next_field(&field, at, end):
            count += 1
            at = field.end + 1
        return count

    def header_name(self, uint32_t position):
        """Name of the field at ``position``, counted from 0 at the top, as it was written; none past the last."""
        cdef bytes section = self.headers()
        cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(section)
        cdef const uint8_t *end = start + self.section_size
        cdef Field field
        if position < self.cursor:
            self.cursor, self.cursor_offset = 0, 0
        while next_field(&field, start + self.cursor_offset, end):
            if self.cursor == position:
                return PyUnicode_DecodeUTF8(<const char *>field.name, field.name_end - field.name, NULL)
            self.cursor += 1
            self.cursor_offset = field.end + 1 - start
        return None

    def header(self, str name not None, uint32_t nth):
        """Value of the ``nth`` field (from 0) of that name, case aside; none if there are not so many."""
        cdef bytes wanted = name.encode("utf-8", "replace")
        cdef bytes section = self.headers()
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(wanted)
        cdef Field field
        if not _is_name(text, PyBytes_GET_SIZE(wanted)) or not self.find(&field, text, PyBytes_GET_SIZE(wanted), nth):
            return None
        return field_value(&field)

    def values(self, str name not None):
        """Values of all fields of that name, case aside, from the top down."""
        cdef bytes wanted = name.encode("utf-8", "replace")
        cdef bytes section = self.headers()
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(wanted)
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(section)
        cdef const uint8_t *end = at + self.section_size
        cdef Field field
        found = []
        if not _is_name(text, PyBytes_GET_SIZE(wanted)):
            return found
        while find_field(&field, at, end, text, PyBytes_GET_SIZE(wanted), 0):
            at = field.end + 1
            found.append(field_value(&field))
        return found


cdef LentMessage lent_message(Instance guest, uint32_t handle, uint32_t type_id):
    """The message behind a handle while it is lent, or none."""
    cdef uint32_t slot = guest.handles.live_slot(handle, type_id)
    if slot == 0:
        return None
    target = guest.handles.objects[slot]
    return target if type(target) is LentMessage and (<LentMessage>target).lent else None


@cython.final
cdef class HeaderFunction(NativeFunction):
    """``header: func(self: borrow<message>, name: string, nth: u32) -> option<list<u8>>``; the value goes to the guest in one copy."""

    cdef uint32_t type_id

    def __init__(self, str resource not None, object closure not None):
        self._set("iiiii:", closure)
        self.type_id = resource_id(resource)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef LentMessage message = lent_message(guest, raw[0].u32, self.type_id)
        cdef uint32_t length = raw[2].u32
        cdef const uint8_t *name = bytes_at(guest, raw[1].u32, length)
        cdef bytes section
        cdef Field field
        if message is None or name == NULL or length > guest.g.lift_left or not _is_name(name, length):
            return 0
        section = message.headers()  # keeps the field's octets alive
        guest.g.lift_left -= length
        if message.find(&field, name, length, raw[3].u32):
            return self._give(guest, &field, pointer)
        guest.room(pointer, 1)[0] = 0
        return 1

    cdef int _give(self, Instance guest, Field *field, uint32_t pointer) except -1:
        cdef uint32_t pair[2]
        strip_value(field)
        cdef size_t size = unfold(field, NULL)
        guest.room(pointer, 1)[0] = 1
        pair[0] = guest.allocate(1, size)
        pair[1] = <uint32_t>size
        unfold(field, guest.room(pair[0], size))
        memcpy(guest.room(pointer + 4, 8), pair, 8)
        return 1


@cython.final
cdef class SizeFunction(NativeFunction):
    """``size: func(self: borrow<message>) -> u64``."""

    cdef uint32_t type_id

    def __init__(self, str resource not None, object closure not None):
        self._set("i:l", closure)
        self.type_id = resource_id(resource)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef LentMessage message = lent_message(guest, raw[0].u32, self.type_id)
        if message is None:
            return 0
        raw[0].u64 = message.size
        return 1


@cython.final
cdef class BodyOffsetFunction(NativeFunction):
    """``body-offset: func(self: borrow<message>) -> u64``."""

    cdef uint32_t type_id

    def __init__(self, str resource not None, object closure not None):
        self._set("i:l", closure)
        self.type_id = resource_id(resource)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef LentMessage message = lent_message(guest, raw[0].u32, self.type_id)
        if message is None:
            return 0
        message.headers()
        raw[0].u64 = message.section_size
        return 1


@cython.final
cdef class ReadFunction(NativeFunction):
    """``read: func(self: borrow<message>, offset: u64, length: u32) -> list<u8>``; what lies in the message's beginning goes to the guest in one copy.

    Args:
        bytes_max: The most that one call gives.
    """

    cdef uint32_t type_id
    cdef uint32_t bytes_max

    def __init__(self, str resource not None, uint32_t bytes_max, object closure not None):
        self._set("ilii:", closure)
        self.type_id, self.bytes_max = resource_id(resource), bytes_max

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef LentMessage message = lent_message(guest, raw[0].u32, self.type_id)
        cdef uint64_t offset = raw[1].u64, length = min(raw[2].u32, self.bytes_max)
        cdef bytes data
        cdef uint64_t held
        cdef uint32_t pair[2]
        if message is None or offset >= SECTION_CHUNK_BYTES or offset >= message.size:
            return 0
        data = message.beginning()
        held = PyBytes_GET_SIZE(data)
        length = min(length, message.size - offset)
        if offset + length > held:
            return 0
        pair[1] = <uint32_t>length
        pair[0] = guest.put_bytes(<const uint8_t *>PyBytes_AS_STRING(data) + offset, length)
        memcpy(guest.room(pointer, 8), pair, 8)
        return 1
