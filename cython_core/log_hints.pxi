# Digest → position of the body that has it, as far as is remembered: a table of fixed size where a new entry pushes out the
# oldest one around it. spinrt/storage/hints.py keeps it in a file; whoever asks compares bytes before believing an answer.

cdef enum:
    HINT_BYTES = 16   # first 8 bytes of the digest, position + 1 (0 for none), as the machine writes numbers
    HINT_WINDOW = 16  # slots in which an entry may stand


@cython.final
cdef class HintTable:
    """Any bytes are a table: what stands in it is a guess.

    Args:
        memory: The slots, 16 bytes each, a power of two of them, 16 at least.
        count: How many of them are taken.
    """

    cdef readonly bytearray memory
    cdef readonly uint64_t count
    cdef uint64_t mask

    def __init__(self, bytearray memory not None, uint64_t count=0):
        cdef uint64_t slots = PyByteArray_GET_SIZE(memory) // HINT_BYTES
        if slots < HINT_WINDOW or slots & (slots - 1) or PyByteArray_GET_SIZE(memory) % HINT_BYTES:
            raise UsageError(f"hints: found {len(memory)} bytes, expected 16 times a power of two, at least {HINT_WINDOW * HINT_BYTES}")
        self.memory, self.count, self.mask = memory, count, slots - 1

    cdef inline uint64_t *slot(self, uint64_t number) noexcept:
        return <uint64_t *>PyByteArray_AS_STRING(self.memory) + 2 * (number & self.mask)

    def find(self, bytes digest not None):
        """Return the position remembered for a digest of 8 bytes or more, or none."""
        cdef uint64_t key = _hint_key(digest)
        cdef uint64_t *slot
        cdef uint64_t step
        for step in range(<uint64_t>HINT_WINDOW):
            slot = self.slot(key + step)
            if slot[0] == key and slot[1]:
                return slot[1] - 1
        return None

    def put(self, bytes digest not None, uint64_t position):
        """Remember a position for a digest; where there is no room, the lowest position around is forgotten."""
        self.enter(_hint_key(digest), position + 1)

    cdef void enter(self, uint64_t key, uint64_t value) noexcept:
        cdef uint64_t *slot
        cdef uint64_t *chosen = NULL
        cdef uint64_t step
        for step in range(<uint64_t>HINT_WINDOW):
            slot = self.slot(key + step)
            if not slot[1] or slot[0] == key:
                chosen = slot
                break
            if chosen == NULL or slot[1] < chosen[1]:
                chosen = slot
        self.count += not chosen[1]
        chosen[0], chosen[1] = key, value

    def wider(self):
        """Return a table of twice as many slots with the same entries."""
        cdef HintTable made = HintTable(bytearray(2 * len(self.memory)))
        cdef uint64_t *slot
        cdef uint64_t number
        for number in range(self.mask + 1):
            slot = self.slot(number)
            if slot[1]:
                made.enter(slot[0], slot[1])
        return made


cdef uint64_t _hint_key(bytes digest) except? 0:
    cdef uint64_t key
    if PyBytes_GET_SIZE(digest) < 8:
        raise UsageError(f"hints: digest of {len(digest)} bytes, expected 8 or more")
    memcpy(&key, PyBytes_AS_STRING(digest), 8)
    return key
