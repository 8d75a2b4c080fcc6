# The records of a log that are appended and not yet written, and the header of each. spinrt/storage/record.py describes
# the bytes; it reads what is written here.

cdef enum:
    RECORD_HEADER = 64
    RECORD_DIGEST = 16
    RECORD_CHAIN_OFFSET = 44
    RECORD_CRC_OFFSET = 60

cdef uint32_t[256] CRC_TABLE


cdef void _fill_crc_table() noexcept:
    """The table of CRC-32 as zlib has it: polynomial 0xEDB88320, lowest bit first."""
    cdef uint32_t octet, value
    cdef int bit
    for octet in range(256):
        value = octet
        for bit in range(8):
            value = (value >> 1) ^ (<uint32_t>0xEDB88320 if value & 1 else 0)
        CRC_TABLE[octet] = value


_fill_crc_table()


cdef uint32_t _crc32(const char *data, Py_ssize_t size, uint32_t seed) noexcept:
    cdef uint32_t value = ~seed
    cdef Py_ssize_t index
    for index in range(size):
        value = CRC_TABLE[(value ^ <unsigned char>data[index]) & 0xFF] ^ (value >> 8)
    return ~value


@cython.final
cdef class LogEntry:
    """A record that is appended and not yet written."""

    cdef readonly object segment
    cdef readonly uint64_t position
    cdef readonly bytes header
    cdef readonly bytes body
    cdef readonly uint64_t time_ns
    cdef readonly uint32_t kind

    @property
    def length(self):
        """Bytes of the body."""
        return PyBytes_GET_SIZE(self.body)


@cython.final
cdef class LogBuffer:
    """What is appended to a log and not yet written. Its owner holds a lock around every use.

    Attributes:
        end: Position after everything appended.
        chain: Chain value of the last record.
        waiting_bytes: Of the records that are not written yet.
    """

    cdef public uint64_t end
    cdef public bytes chain
    cdef readonly uint64_t waiting_bytes
    cdef list pending   # not taken for writing
    cdef dict unwritten  # position → entry, those being written included

    def __init__(self, uint64_t end, bytes chain not None):
        self.end = end
        self.chain = chain
        self.pending = []
        self.unwritten = {}

    def append(
        self, object segment, uint32_t kind, bytes body not None, uint64_t time_ns, bytes digest not None, uint64_t durable
    ):
        """Add a record at `end` and return its position.

        Args:
            segment: Where it goes; has ``seed``.
            kind: 0 … 65535.
            digest: SHA-256 of the body, or its first 16 bytes.
            durable: Position up to which the log is durable.
        """
        if kind > 0xFFFF or PyBytes_GET_SIZE(digest) < RECORD_DIGEST:
            raise UsageError(f"log append: kind {kind} and a digest of {len(digest)} bytes, expected 0 … 65535 and 16")
        cdef LogEntry entry = LogEntry.__new__(LogEntry)
        entry.segment = segment
        entry.position = self.end
        entry.body = body
        entry.time_ns = time_ns
        entry.kind = kind
        entry.header = self.make_header(entry, digest, durable, segment.seed)
        self.pending.append(entry)
        self.unwritten[entry.position] = entry
        self.end += RECORD_HEADER + PyBytes_GET_SIZE(body)
        self.waiting_bytes += RECORD_HEADER + PyBytes_GET_SIZE(body)
        return entry.position

    cdef bytes make_header(self, LogEntry entry, bytes digest, uint64_t durable, uint32_t seed):
        """Return the 64 bytes and move the chain on."""
        cdef bytes header = PyBytes_FromStringAndSize(NULL, RECORD_HEADER)
        cdef char *out = PyBytes_AS_STRING(header)
        cdef uint64_t unsynced = entry.position - durable
        cdef char[RECORD_DIGEST + RECORD_CHAIN_OFFSET] linked
        out[0] = c'R'
        out[1] = 1
        out[2] = <char>(entry.kind >> 8)
        out[3] = <char>entry.kind
        _put_u32(out + 4, <uint32_t>PyBytes_GET_SIZE(entry.body))
        _put_u64(out + 8, entry.position)
        _put_u64(out + 16, entry.time_ns)
        _put_u32(out + 24, <uint32_t>(unsynced if unsynced < U32_MAX else U32_MAX))
        memcpy(out + 28, PyBytes_AS_STRING(digest), RECORD_DIGEST)
        memcpy(linked, PyBytes_AS_STRING(self.chain), RECORD_DIGEST)
        memcpy(linked + RECORD_DIGEST, out, RECORD_CHAIN_OFFSET)
        self.chain = _sha256(PyBytes_FromStringAndSize(linked, sizeof(linked))).digest()[:RECORD_DIGEST]
        memcpy(out + RECORD_CHAIN_OFFSET, PyBytes_AS_STRING(self.chain), RECORD_DIGEST)
        _put_u32(out + RECORD_CRC_OFFSET, _crc32(out, RECORD_CRC_OFFSET, seed))
        return header

    def get(self, uint64_t position):
        """Return the entry at that position while it is not written, else none."""
        return self.unwritten.get(position)

    def take(self):
        """Return what is to be written next; it can be had by `get` until `written` is told of it."""
        cdef list entries = self.pending
        self.pending = []
        return entries

    def written(self, list entries not None):
        """These are written."""
        cdef LogEntry entry
        for entry in entries:
            del self.unwritten[entry.position]
            self.waiting_bytes -= RECORD_HEADER + PyBytes_GET_SIZE(entry.body)

    def give_up(self, bytes chain not None):
        """Forget all records; the next one follows ``chain``, at the position where it would have been."""
        self.pending = []
        self.unwritten = {}
        self.waiting_bytes = 0
        self.chain = chain
