# A record of a log read back: one that is as it should be, checked and cut in one pass. What is wrong with any other,
# spinrt/storage/record.py says, where the bytes are described too.

cdef enum:
    RECORD_LENGTH_OFFSET = 4
    RECORD_POSITION_OFFSET = 8
    RECORD_DIGEST_OFFSET = 28
    RECORD_BODY_MAX = 16 * 1024 * 1024
    RECORD_COMPRESSED = 0x80  # in the first byte of the kind


cdef bint _is_record(const unsigned char *data, uint64_t position, uint32_t seed) noexcept:
    """Whether these 64 bytes are the header of a record at that position."""
    return (
        data[0] == c'R'
        and data[1] == 1
        and _get_u32(data + RECORD_CRC_OFFSET) == _crc32(<const char *>data, RECORD_CRC_OFFSET, seed)
        and _get_u64(data + RECORD_POSITION_OFFSET) == position
        and _get_u32(data + RECORD_LENGTH_OFFSET) <= RECORD_BODY_MAX
    )


def record_part(bytes data not None, uint64_t position, uint32_t seed, Py_ssize_t offset, Py_ssize_t length):
    """Return bytes of a record's body; none when it is compressed, or anything is not as it should be, or not there.

    The header is checked, and the body's digest when all of the body is asked for.

    Args:
        data: What was read at ``position``: the header, and the body up to the end of the range at least.
        seed: Seeds the checksums of the segment.
        offset: Of the range in the body.
        length: Of the range; the bytes that are returned.
    """
    cdef const unsigned char *octets = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t there = PyBytes_GET_SIZE(data) - RECORD_HEADER
    cdef Py_ssize_t size
    cdef bytes part
    if offset < 0 or length < 0 or there < offset or there - offset < length or not _is_record(octets, position, seed):
        return None
    size = _get_u32(octets + RECORD_LENGTH_OFFSET)
    if size < offset or size - offset < length or octets[2] & RECORD_COMPRESSED:
        return None
    part = PyBytes_FromStringAndSize(<const char *>octets + RECORD_HEADER + offset, length)
    return part if length < size or _has_digest(octets, part) else None


def record_frame(bytes data not None, uint64_t position, uint32_t seed):
    """Return the body of a record that is stored compressed, as stored and checked; none as `record_part`.

    Args:
        data: What was read at ``position``: the header and all of the body at least.
        seed: Seeds the checksums of the segment.
    """
    cdef const unsigned char *octets = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t there = PyBytes_GET_SIZE(data) - RECORD_HEADER
    cdef bytes frame
    if there < 0 or not octets[2] & RECORD_COMPRESSED or not _is_record(octets, position, seed):
        return None
    if <Py_ssize_t>_get_u32(octets + RECORD_LENGTH_OFFSET) > there:
        return None
    frame = PyBytes_FromStringAndSize(<const char *>octets + RECORD_HEADER, _get_u32(octets + RECORD_LENGTH_OFFSET))
    return frame if _has_digest(octets, frame) else None


cdef bint _has_digest(const unsigned char *header, bytes body) except -1:
    cdef bytes digest = _sha256(body).digest()
    return memcmp(PyBytes_AS_STRING(digest), header + RECORD_DIGEST_OFFSET, RECORD_DIGEST) == 0
