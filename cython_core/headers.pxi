# Header sections, read where they lie: their end, their fields, values unfolded.
#
# The rules are those of spinrt/mail/message/headers.py, which parses whole sections: a field is ``name [WSP] ":" value``, the value
# goes on over lines that start with a space or a tab (RFC 5322 2.2), lines end with CRLF or a bare LF, and a line that is
# neither a field nor a continuation belongs to no field. One look costs one pass over the lines in front of what is found.

cdef enum:
    NAME_BYTES_MAX = 998  # more than a line may hold (RFC 5322 2.1.1): no such name is looked for


cdef struct Field:
    const uint8_t *name   # at the start of a line
    const uint8_t *name_end  # behind the last octet of the name
    const uint8_t *value  # behind the colon
    const uint8_t *end    # at the line end behind the last line of the value, or at the end of the section


cdef inline bint _is_blank(uint8_t octet) noexcept:
    return octet == 0x20 or octet == 0x09


cdef inline bint _is_white(uint8_t octet) noexcept:
    return _is_blank(octet) or octet == 0x0D or octet == 0x0A


cdef inline bint _is_name_octet(uint8_t octet) noexcept:
    return 0x21 <= octet <= 0x7E and octet != 0x3A


cdef inline uint8_t _lower(uint8_t octet) noexcept:
    return octet | 0x20 if 0x41 <= octet <= 0x5A else octet


cdef bint _is_name(const uint8_t *text, size_t length) noexcept:
    """Whether a field can be called so."""
    cdef size_t position
    if not 0 < length <= NAME_BYTES_MAX:
        return False
    for position in range(length):
        if not _is_name_octet(text[position]):
            return False
    return True


cdef bint _same_name(const uint8_t *one, const uint8_t *other, size_t length) noexcept:
    cdef size_t position
    for position in range(length):
        if one[position] != other[position] and _lower(one[position]) != _lower(other[position]):
            return False
    return True


cdef inline const uint8_t *_line_end(const uint8_t *start, const uint8_t *end) noexcept:
    """The LF of the line, or the end of the section."""
    cdef const uint8_t *found = <const uint8_t *>memchr(start, 0x0A, end - start)
    return end if found == NULL else found


cdef const uint8_t *_value_end(const uint8_t *line_end, const uint8_t *end) noexcept:
    """The end of the last line that a value goes on over."""
    while line_end + 1 < end and _is_blank(line_end[1]):
        line_end = _line_end(line_end + 1, end)
    return line_end


cdef bint _ends_at_colon(Field *field, const uint8_t *name_end, const uint8_t *line_end, const uint8_t *end) noexcept:
    """Whether a name that ends there is a field's; what is known of the field then."""
    field.name_end = name_end
    while name_end < line_end and _is_blank(name_end[0]):
        name_end += 1
    if name_end >= line_end or name_end[0] != 0x3A:
        return False
    field.value = name_end + 1
    field.end = _value_end(line_end, end)
    return True


cdef bint next_field(Field *field, const uint8_t *at, const uint8_t *end) noexcept:
    """Find the first field at or behind `at`, which is the start of a line."""
    cdef const uint8_t *line_end
    cdef const uint8_t *name_end
    while at < end:
        line_end = _line_end(at, end)
        name_end = at
        while name_end < line_end and _is_name_octet(name_end[0]):
            name_end += 1
        field.name = at
        if name_end > at and _ends_at_colon(field, name_end, line_end, end):
            return True
        at = line_end + 1
    return False


cdef bint find_field(
    Field *field, const uint8_t *at, const uint8_t *end, const uint8_t *name, size_t length, uint32_t nth
) noexcept:
    """Find the `nth` field (from 0) of that name, case aside; `name` passed `_is_name`, `at` is the start of a line."""
    cdef const uint8_t *line_end
    while at < end:
        line_end = _line_end(at, end)
        if <size_t>(line_end - at) > length and _same_name(at, name, length):
            field.name = at
            if _ends_at_colon(field, at + length, line_end, end):
                if nth == 0:
                    return True
                nth -= 1
        at = line_end + 1
    return False


cdef void strip_value(Field *field) noexcept:
    """Take the white space around the value off it."""
    while field.value < field.end and _is_white(field.value[0]):
        field.value += 1
    while field.end > field.value and _is_white((field.end - 1)[0]):
        field.end -= 1


cdef size_t unfold(const Field *field, uint8_t *to) noexcept:
    """Copy a stripped value without the line ends of its folds (RFC 5322 2.2.3), or count its bytes when `to` is NULL."""
    cdef const uint8_t *at = field.value
    cdef const uint8_t *line_end
    cdef size_t size = 0, part
    while True:
        line_end = _line_end(at, field.end)
        part = line_end - at
        if line_end < field.end and part and (line_end - 1)[0] == 0x0D:
            part -= 1
        if to != NULL:
            memcpy(to + size, at, part)
        size += part
        if line_end == field.end:
            return size
        at = line_end + 1


cdef bytes field_value(Field *field):
    """The value of a field, unfolded, as an object."""
    strip_value(field)
    cdef bytes made = PyBytes_FromStringAndSize(NULL, unfold(field, NULL))
    unfold(field, <uint8_t *>PyBytes_AS_STRING(made))
    return made


cdef Py_ssize_t section_end(const uint8_t *data, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Offset behind the empty line that ends the section at `start`, or -1 without one."""
    while start < end:
        if data[start] == 0x0A:
            return start + 1
        if data[start] == 0x0D and start + 1 < end and data[start + 1] == 0x0A:
            return start + 2
        start = _line_end(data + start, data + end) - data + 1
    return -1
