# Recovery: an instance is again what it was before a call, and what the host changes in it can be taken back, too
# (docs/design/transactions.md).

cdef enum:
    PIECES_MAX_BYTES = 64


cdef int _save(Instance guest, uint32_t pointer, uint64_t length) except -1:
    """Write records for bytes that the host is about to change: eight at a time, or one for many.

    Raises:
        QuotaExceeded: The log is full.
    """
    cdef spin_log *log = guest.g.log
    cdef uint64_t done = 0, kind, size
    cdef Record *record
    if length > PIECES_MAX_BYTES:
        return _save_many(guest, pointer, length)
    if log.at.head + (length // 8 + 4) * RECORD_BYTES > guest.log_bytes:
        raise _log_full(guest)
    while done < length:
        kind = _widest(length - done)
        size = <uint64_t>1 << kind
        record = <Record *>(guest.log_base + log.at.head)
        memcpy(&record.value, guest.base + pointer + done, size)
        record.tag = log.stamp | kind << 32 | (pointer + done)
        log.at.head += RECORD_BYTES
        done += size
    return 0


cdef int _save_many(Instance guest, uint32_t pointer, uint64_t length) except -1:
    cdef uint64_t needed = guest.saved_bytes + length
    cdef uint8_t *wider
    cdef Record *record
    if needed > guest.log_bytes or <uint64_t>guest.g.log.at.head + RECORD_BYTES > guest.log_bytes:
        raise _log_full(guest)
    if needed > guest.saved_max:
        wider = <uint8_t *>realloc(guest.saved, 2 * needed)
        if wider == NULL:
            raise MemoryError
        guest.saved, guest.saved_max = wider, 2 * needed
    memcpy(guest.saved + guest.saved_bytes, guest.base + pointer, length)
    record = <Record *>(guest.log_base + guest.g.log.at.head)
    record.value = length | guest.saved_bytes << 32
    record.tag = guest.g.log.stamp | <uint64_t>KIND_SAVED << 32 | pointer
    guest.g.log.at.head += RECORD_BYTES
    guest.g.outside = True
    guest.saved_bytes = needed
    return 0


cdef inline uint64_t _widest(uint64_t length) noexcept:
    """Kind of the widest record that fits into so many bytes."""
    return 3 if length >= 8 else 2 if length >= 4 else 1 if length >= 2 else 0


cdef int _recover(Instance guest, Savepoint to) except -1:
    """A call failed in it: take back what it changed. Where that cannot be, it is broken from here on."""
    guest.failures += 1
    if not guest.taken_back or guest.g.state & (SPIN_BROKEN | SPIN_CLOSED):
        return guest.mark_broken()
    return _roll_back(guest, to)


cdef int _roll_back(Instance guest, Savepoint to) except -1:
    """Be as at that savepoint. Nothing is done with one that is broken or left behind: nothing runs in it any more."""
    cdef uint32_t pages
    if guest.log_base == NULL or guest.g.state & (SPIN_BROKEN | SPIN_CLOSED) or not guest.is_there():
        return _release(guest)
    pages = _roll_back_log(guest, to)
    if not spin_is_changed(&guest.g):
        _release(guest)
    if pages != NOT_GROWN:
        _shrink(guest, pages)
    return 0


cdef int _shrink(Instance guest, uint32_t pages) except -1:
    """Take back growth: be made anew with a memory of that size. Whoever calls it directly has to be linked anew."""
    cdef _Moved made
    cdef Export export
    cdef Instance other
    cdef uint32_t was = guest.g.state
    guest.memory_bytes = <size_t>pages * PAGE_BYTES
    try:
        made = _copy(guest, guest.context, {})
    except (SpinError, MemoryError):
        return guest.mark_broken()
    guest.store.dead += 1
    guest.store.dead_bytes += guest.memory_bytes
    guest.store.state.attention = 1  # it may be time to collect
    guest.handle = made.handle
    guest.g.state = was
    guest._find_memory()
    for export in guest.exports:
        export.generation = GENERATION_UNKNOWN
    for other in list(guest.store.instances):
        if guest in other.linked:
            other.lose_exporter(guest)
    spin_new_version(&guest.store.state)
    if guest.store.state.frame == NULL and guest.store.state.held == 0:
        guest.store.end_outermost()
    return 0


cdef object _full_log(Instance guest):
    """The error for a log that was full when the guest trapped, or none."""
    cdef spin_log *log = guest.g.log
    if guest.log_base == NULL:
        return None
    if <uint64_t>_end_of_log(guest) + RECORD_BYTES > guest.log_bytes:
        return _log_full(guest)
    if log.bytes_next != log.bytes_head and not log.bytes_head <= log.bytes_next <= guest.undo_bytes:
        return _log_full(guest)  # a bulk operation has begun whose bytes did not fit
    return None


cdef object _log_full(Instance guest):
    return QuotaExceeded(
        f"extension {guest.name}: found more changes in one transaction than its undo log of {guest.log_bytes} bytes holds, expected fewer",
        hint="raise limits.undo_bytes, or change less in one call",
    )


cdef int _add_handle(Instance guest, object target, uint32_t type_id, uint8_t state) except? 0:
    """Put an object into its table; in a call of its own the handle goes when the call fails."""
    cdef bint logged = state == SLOT_OWN and _is_logged(guest)
    cdef uint32_t handle = guest.handles.add(target, type_id, state)
    if logged:
        guest.handles.note(handle & SLOT_MASK, CHANGE_ADD)
    return handle


cdef int _take_away(Instance guest, uint32_t slot) except -1:
    """Take a handle from it; in a call of its own it comes back when the call fails, and its slot is free when that is committed."""
    if guest.handles.slots[slot].state == SLOT_OWN and _is_logged(guest):
        guest.handles.suspend(slot)
        return guest.handles.note(slot, CHANGE_DROP)
    return guest.handles.release(slot)


cdef bint _is_logged(Instance guest) except -1:
    if guest.log_base == NULL or not guest.g.state & SPIN_BUSY:
        return False
    _note_outside(guest)
    return True


cdef int _write_half(Instance guest, bytes name, bint high, uint64_t bits) except -1:
    """Put back one half of a mutable global: of a number there is only the low one."""
    cdef spin_extern found
    cdef spin_value value
    if not api.instance_export_get(guest.context, &guest.handle, name, len(name), &found):
        return 0
    api.global_get(guest.context, &found.of.global_, &value)
    memcpy(&value.of.v128[8 if high else 0], &bits, 8)
    return _check_moved(guest, api.global_set(guest.context, &found.of.global_, &value))


cdef int _put_back_reference(Instance guest, uint32_t table, uint32_t entry, uint32_t slot) except -1:
    """Put a function reference that was kept back into a table. Of other kinds only the log goes back: all are null, as nobody gives a guest one."""
    cdef spin_extern target
    cdef spin_value value
    cdef bytes name = b"spinrt:table/%d" % table
    if not api.instance_export_get(guest.context, &guest.handle, name, len(name), &target) or not api.table_get(guest.context, &target.of.table, entry, &value):
        return 0
    if value.kind != SPIN_VALUE_FUNC:
        guest.g.log.externs_head = slot
    elif _kept_function(guest, slot, &value):
        _check_moved(guest, api.table_set(guest.context, &target.of.table, entry, &value))
    return 0


cdef int _put_back_global_reference(Instance guest, uint32_t number, uint32_t slot) except -1:
    cdef spin_extern target
    cdef spin_value value
    cdef bytes name = GLOBAL_EXPORT_BYTES + b"%d" % number
    if not api.instance_export_get(guest.context, &guest.handle, name, len(name), &target):
        return 0
    api.global_get(guest.context, &target.of.global_, &value)
    if value.kind != SPIN_VALUE_FUNC:
        guest.g.log.externs_head = slot
    elif _kept_function(guest, slot, &value):
        _check_moved(guest, api.global_set(guest.context, &target.of.global_, &value))
    return 0


cdef bint _kept_function(Instance guest, uint32_t slot, spin_value *value) except -1:
    cdef spin_extern kept
    guest.g.log.functions_head = slot
    return api.instance_export_get(guest.context, &guest.handle, b"spinrt:undo-functions", 21, &kept) and api.table_get(guest.context, &kept.of.table, slot, value)
