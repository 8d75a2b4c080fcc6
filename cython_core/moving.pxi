# Moving: an instance made anew, in another engine store or in the same one, with all that it had.

cdef enum:
    PAGE_BYTES = 65536
    COPY_BYTES = 4096

cdef uint64_t NO_DEADLINE = <uint64_t>1 << 40  # ticks that do not come while an instance is made


cdef int _check_moved(Instance guest, spin_error *error) except -1:
    if error != NULL:
        raise ExtensionError(f"extension {guest.name}: could not be moved: {_first_line(_take_error(error))}")
    return 0


cdef Export _moved_export(Export export, dict copies, spin_context *context, uint32_t state):
    """The same function in the copy of its instance; of one that is not moved, itself; none for one that is gone."""
    cdef Export moved
    cdef _Moved other = copies.get(export.guest)
    cdef spin_extern found
    cdef bytes text = export.name.encode()
    if other is None:
        if state & SPIN_STALE:
            return None
        export.refresh()
        return export
    moved = Export.__new__(Export)
    moved.name, moved.plan, moved.guest = export.name, export.plan, export.guest
    moved.generation = export.guest.store.state.generation
    api.instance_export_get(context, &other.handle, text, len(text), &found)
    moved.function = found.of.func
    return moved


cdef int _relink(Instance guest, tuple imports) except -1:
    """`Instance.relink`."""
    cdef _Moved made
    cdef uint32_t was = guest.g.state
    cdef tuple before = guest.imports, linked = guest.linked
    if was & SPIN_BUSY:
        raise StateError(f"extension {guest.name}: found it running, expected it at rest while its imports are linked")
    guest.imports, guest.linked = imports, guest._linked_through(imports)
    guest.g.state = 0
    try:
        made = _copy_to(guest, guest.context, {})
    except BaseException:
        guest.imports, guest.linked, guest.g.state = before, linked, was
        raise
    guest.handle = made.handle
    guest._find_memory()
    guest.store.dead += 1  # what it was
    guest.store.dead_bytes += guest.memory_bytes
    guest.g.state = was & SPIN_HELD
    spin_new_version(&guest.store.state)
    return 0


cdef _Moved _copy_to(Instance guest, spin_context *context, dict copies):
    """Make a copy of it in another engine store: same imports, memory and mutable globals.

    A stale one is copied without those that it calls directly; `relink` gives it others before anything enters it.
    """
    guest._refresh(0, 0)
    return _copy(guest, context, copies)


cdef _Moved _copy(Instance guest, spin_context *context, dict copies):
    """As `_copy_to`. The engine's own code that fills the copy looks at no clock, for signals or for kills: it is bounded by
    the module, belongs to no call, and may run while one is taken back because it was late."""
    cdef _Moved made = _Moved()
    cdef spin_frame frame
    cdef spin_slot slot
    cdef uint32_t was = guest.g.state
    imports = tuple([_moved_export(one, copies, context, was) if isinstance(one, Export) else one for one in guest.imports])
    linked, guest.linked = guest.linked, ()
    guest.g.state = 0
    try:
        guest.enter(&frame, &slot, None)
        guest.g.may_leave = False
        api.context_set_epoch_deadline(context, NO_DEADLINE)
        try:
            made.handle = guest._instantiate(context, imports)
        finally:
            api.context_set_epoch_deadline(context, 1)
            guest.g.may_leave = True
            guest.leave(&frame)
    finally:
        guest.linked, guest.g.state = linked, was
    _copy_memory(guest, context, &made.handle)
    _copy_log(guest, context, &made.handle)
    for name in guest.module.host_globals:
        _copy_global(guest, context, &made.handle, name)
    return made


cdef int _copy_log(Instance guest, spin_context *context, spin_instance *made) except -1:
    """Moved global, flags of segments, and records, if it is held."""
    cdef spin_extern found
    if guest.log_base != NULL:
        api.instance_export_get(context, made, b"spinrt:undo", 11, &found)
        memcpy(api.memory_data(context, &found.of.memory), guest.log_base, guest.g.log.at.head)
    if guest.bytes_base != NULL and guest.g.log.bytes_head:
        api.instance_export_get(context, made, b"spinrt:undo-bytes", 17, &found)
        memcpy(api.memory_data(context, &found.of.memory), guest.bytes_base, guest.g.log.bytes_head)
    return 0


cdef int _copy_memory(Instance guest, spin_context *context, spin_instance *made) except -1:
    """So much of it as `memory_bytes` says: one that is to shrink says less than it has."""
    cdef spin_extern found
    cdef uint64_t before = 0
    cdef size_t size, at
    cdef uint8_t *target
    if not guest.has_memory:
        return 0
    api.instance_export_get(context, made, b"memory", 6, &found)
    size = api.memory_data_size(context, &found.of.memory)
    if size < guest.memory_bytes:
        _check_moved(guest, api.memory_grow(context, &found.of.memory, (guest.memory_bytes - size) // PAGE_BYTES, &before))
    target = api.memory_data(context, &found.of.memory)
    for at in range(0, guest.memory_bytes, COPY_BYTES):  # pages that nobody touched stay untouched
        if memcmp(target + at, guest.base + at, COPY_BYTES) != 0:
            memcpy(target + at, guest.base + at, COPY_BYTES)
    return 0


cdef int64_t _read_global(Instance guest, bytes name) except? -1:
    """The bits of a mutable number global that the module exports to the host."""
    cdef spin_extern found
    cdef spin_value value
    api.instance_export_get(guest.context, &guest.handle, name, len(name), &found)
    value.of.i64 = 0
    api.global_get(guest.context, &found.of.global_, &value)
    return value.of.i64


cdef int _write_global(Instance guest, bytes name, int64_t bits) except -1:
    cdef spin_extern found
    cdef spin_value value
    api.instance_export_get(guest.context, &guest.handle, name, len(name), &found)
    api.global_get(guest.context, &found.of.global_, &value)  # for its kind
    value.of.i64 = bits
    return _check_moved(guest, api.global_set(guest.context, &found.of.global_, &value))


cdef int _copy_global(Instance guest, spin_context *context, spin_instance *made, bytes name) except -1:
    cdef spin_extern mine, theirs
    cdef spin_value value
    api.instance_export_get(guest.context, &guest.handle, name, len(name), &mine)
    api.instance_export_get(context, made, name, len(name), &theirs)
    api.global_get(guest.context, &mine.of.global_, &value)
    _check_moved(guest, api.global_set(context, &theirs.of.global_, &value))
    return 0


cdef int _adopt(Instance guest, _Moved made, spin_context *context) except -1:
    """Be that copy from now on."""
    guest.handle, guest.context = made.handle, context
    guest.generation = guest.store.state.generation + 1
    guest._find_memory()
    return 0
