# Rolling back and committing what guests changed (docs/design/transactions.md).
#
# Each instance has an undo log, which its own rewritten code fills. `_roll_back_log` applies it backwards; `Touches` remembers, for
# one transaction, which instances have something in theirs that is neither committed nor rolled back.

cdef enum:
    RECORD_BYTES = 16
    KIND_RANGE = 4
    KIND_GLOBAL = 5
    KIND_GLOBAL_HIGH = 6
    KIND_GROW = 7
    KIND_FLAG = 8
    KIND_TABLE = 9
    KIND_REFERENCE = 10
    KIND_NONE = 11
    KIND_SAVED = 12
    NOT_GROWN = 0xFFFFFFFF


cdef extern from "sys/mman.h" nogil:
    int madvise(void *address, size_t length, int advice)
    int MADV_DONTNEED


cdef struct Record:
    uint64_t tag
    uint64_t value


cdef struct Savepoint:
    uint64_t state      # head of the log and moved global
    uint32_t handles    # changes of the handle table so far


cdef inline Savepoint _savepoint(Instance guest) noexcept:
    """How far an instance's log is now."""
    cdef Savepoint found
    found.state = guest.g.log.state
    found.handles = guest.handles.changes
    return found


cdef inline Savepoint _idle_savepoint(Instance guest) noexcept:
    """Where the log of an instance began that nothing held when it was entered."""
    cdef Savepoint found
    found.state = guest.g.idle.state
    found.handles = 0
    return found


cdef uint32_t _end_of_log(Instance guest) noexcept:
    """Behind the last record: a trap leaves some behind the head that the guest has written down."""
    cdef spin_log *log = guest.g.log
    cdef uint64_t end = max(<uint64_t>log.at.head, <uint64_t>guest.g.idle.at.head)
    while end + RECORD_BYTES <= guest.log_bytes and (<Record *>(guest.log_base + end)).tag >> SPIN_STAMP_SHIFT == log.stamp >> SPIN_STAMP_SHIFT:
        end += RECORD_BYTES
    return <uint32_t>min(end, guest.log_bytes)


cdef uint32_t _roll_back_log(Instance guest, Savepoint to) except? 0:
    """Apply the records behind a savepoint, the last one first.

    Returns:
        The pages that its memory had, if it has grown meanwhile; else `NOT_GROWN`.
    """
    cdef spin_log *log = guest.g.log
    cdef uint32_t at = _end_of_log(guest), pages = NOT_GROWN
    cdef uint32_t first = max(<uint32_t>to.state, guest.g.idle.at.head)
    cdef Record *record
    cdef bint large = at > SPIN_LOG_KEPT_BYTES or log.bytes_head > SPIN_LOG_KEPT_BYTES or guest.saved_max > SPIN_LOG_KEPT_BYTES
    if at < first:  # it was taken back further already
        return NOT_GROWN
    guest._refresh(0, 0)
    while at > first:
        at -= RECORD_BYTES
        record = <Record *>(guest.log_base + at)
        if (record.tag >> 32) & 15 < KIND_RANGE:
            _put_back(guest, <uint32_t>record.tag, <const uint8_t *>&record.value, 1 << ((record.tag >> 32) & 3))
        elif (record.tag >> 32) & 15 == KIND_GROW:
            pages = <uint32_t>record.value
        else:
            _apply_rare(guest, record)
    log.state = to.state
    if large and first == guest.g.idle.at.head:
        _trim_log(guest)
    _next_stamp(guest)
    guest.handles.roll_back(to.handles)
    return pages


cdef inline int _put_back(Instance guest, uint32_t address, const uint8_t *data, uint64_t size) noexcept:
    if <uint64_t>address + size <= guest.memory_bytes:  # else the store behind it trapped
        memcpy(guest.base + address, data, size)
    return 0


cdef int _apply_rare(Instance guest, const Record *record) except -1:
    cdef uint32_t kind = (record.tag >> 32) & 15, address = <uint32_t>record.tag
    cdef uint32_t low = <uint32_t>record.value, high = <uint32_t>(record.value >> 32)
    if kind == KIND_RANGE:
        if <uint64_t>high + low <= guest.undo_bytes:
            _put_back(guest, address, guest.bytes_base + high, low)
            guest.g.log.bytes_head = guest.g.log.bytes_next = high
    elif kind == KIND_SAVED:
        _put_back(guest, address, guest.saved + high, low)
        guest.saved_bytes = high
    elif kind == KIND_FLAG:
        if SPIN_FLAGS_AT <= address < guest.g.idle.at.head:
            guest.log_base[address] = <uint8_t>low
    elif kind == KIND_GLOBAL or kind == KIND_GLOBAL_HIGH:
        _write_half(guest, GLOBAL_EXPORT_BYTES + b"%d" % address, kind == KIND_GLOBAL_HIGH, record.value)
    elif kind == KIND_TABLE:
        _put_back_reference(guest, high, address, low)
    elif kind == KIND_REFERENCE:
        _put_back_global_reference(guest, address, low)
    return 0


cdef int _next_stamp(Instance guest) noexcept:
    """What is in the log now is no record any more. When the stamps have gone round, it is cleared."""
    guest.g.log.stamp += SPIN_STAMP_ONE
    if guest.g.log.stamp == 0:
        _clear_log(guest)
    return 0


cdef int _trim_log(Instance guest) noexcept:
    """Give back the memory of a log that was large for once."""
    if guest.log_bytes > SPIN_LOG_KEPT_BYTES:
        madvise(guest.log_base + SPIN_LOG_KEPT_BYTES, guest.log_bytes - SPIN_LOG_KEPT_BYTES, MADV_DONTNEED)
    if guest.saved_max > SPIN_LOG_KEPT_BYTES:
        free(guest.saved)
        guest.saved = NULL
        guest.saved_max = guest.saved_bytes = 0
    if guest.bytes_base != NULL and guest.undo_bytes > SPIN_LOG_KEPT_BYTES:
        madvise(guest.bytes_base + SPIN_LOG_KEPT_BYTES, guest.undo_bytes - SPIN_LOG_KEPT_BYTES, MADV_DONTNEED)
    return 0


cdef int _clear_log(Instance guest) noexcept:
    memset(guest.log_base + guest.g.idle.at.head, 0, guest.log_bytes - guest.g.idle.at.head)
    guest.g.log.stamp = SPIN_STAMP_ONE
    return 0


cdef list _keep(Instance guest):
    """Make what an instance changed permanent, and let others enter it. Returns what it has let go of."""
    guest.saved_bytes = 0
    if guest.g.log.at.head > SPIN_LOG_KEPT_BYTES or guest.g.log.bytes_head > SPIN_LOG_KEPT_BYTES or guest.saved_max > SPIN_LOG_KEPT_BYTES:
        _trim_log(guest)
    if not spin_keep(&guest.g):
        _clear_log(guest)
    guest.g.outside = False
    dropped = guest.handles.commit() if guest.handles.changes else None
    _release(guest)
    return dropped


cdef inline int _release(Instance guest) except -1:
    if guest.g.state & SPIN_HELD:
        guest.g.state &= ~<uint32_t>SPIN_HELD
        spin_let_go(&guest.store.state)
        guest.holder = None
        if guest.store.state.frame == NULL and guest.store.state.attention and guest.store.state.held == 0:
            guest.store.end_outermost()
    return 0


cdef int _note_outside(Instance guest) except -1:
    """Something of an instance changed that its log does not hold: see to it that whoever settles it looks.

    Raises:
        QuotaExceeded: The log is full.
    """
    cdef spin_log *log = guest.g.log
    cdef Record *record
    guest.g.outside = True
    if log.state != guest.g.idle.state:
        return 0
    if <uint64_t>log.at.head + RECORD_BYTES > guest.log_bytes:
        raise _log_full(guest)
    record = <Record *>(guest.log_base + log.at.head)
    record.tag = log.stamp | <uint64_t>KIND_NONE << 32
    log.at.head += RECORD_BYTES
    return 0


@cython.final
@cython.freelist(16)
cdef class Touches:
    """What the calls of one transaction changed in instances, in order, and is not committed."""

    cdef list guests
    cdef Savepoint *savepoints
    cdef uint32_t capacity

    def __cinit__(self):
        self.guests = []

    def __dealloc__(self):
        free(self.savepoints)

    def __len__(self):
        return len(self.guests)

    cdef int note(self, Instance guest, Savepoint before) except -1:
        """An instance was left with changes; `before` is how it was entered. It is held from now on."""
        cdef uint32_t count = len(self.guests)
        cdef Savepoint *wider
        if count == self.capacity:
            wider = <Savepoint *>realloc(self.savepoints, max(8, 2 * count) * sizeof(Savepoint))
            if wider == NULL:
                raise MemoryError
            self.savepoints, self.capacity = wider, max(8, 2 * count)
        self.savepoints[count] = before
        self.guests.append(guest)
        if not guest.g.state & SPIN_HELD:
            guest.g.state |= SPIN_HELD
            spin_hold(&guest.store.state)
            guest.holder = self
            spin_end_stub(&guest.store.state)  # which does not look whom it runs
        return 0

    cdef int roll_back(self, Py_ssize_t mark) except -1:
        """Undo the touches behind the first `mark`, the last one first."""
        cdef Instance guest
        while len(self.guests) > mark:
            guest = self.guests.pop()
            _roll_back(guest, self.savepoints[len(self.guests)])
        return 0

    cdef int keep(self) except -1:
        guests, self.guests = self.guests, []
        dropped = [_keep(guest) for guest in guests]
        dropped.clear()  # now, when nothing is held any more
        return 0
