# Witnesses: what an instance holds at rest, kept, and compared with what it holds later. And ways to make a call fail where one wants.
#
# For the safety suite (docs/design/check.md): nothing else of the runtime needs it. What is compared is all that there is of an
# instance: memory above the dead stack, mutable globals, tables that its code writes, flags of dropped segments, and live handles. Generations of free handles may go up.

cdef Py_ssize_t[5] VALUE_BYTES = [4, 8, 4, 8, 16]  # of i32, i64, f32, f64, and of all others

COUNTDOWN_NEVER = 1 << 62
"""A countdown that no call uses up."""


@cython.final
cdef class Witness:
    """What an instance held when this was made.

    Args:
        guest: At rest, or held by a transaction whose handler has ended.

    Raises:
        ClosedError: Its store has left it behind.
    """

    cdef Instance guest
    cdef bytes memory           # all of it
    cdef bytes log              # head, moved global, and flags of dropped segments; empty without an undo log
    cdef uint32_t lowest        # below it nothing lives
    cdef list globals_
    cdef list tables
    cdef Slot *slots
    cdef list objects
    cdef uint32_t slot_count, live, first_free, state

    def __cinit__(self, Instance guest not None):
        self.guest, self.state = guest, guest.g.state
        _check_there(guest)
        self.memory = PyBytes_FromStringAndSize(<char *>guest.base, guest.memory_bytes)
        self.log = _log_of(guest)
        self.lowest = min(guest.g.log.dead_below, guest.g.log.at.moved, <uint32_t>guest.memory_bytes)
        self.globals_ = _globals_of(guest)
        self.tables = _tables_of(guest)
        self.slot_count, self.live, self.first_free = guest.handles.slot_count, guest.handles.live, guest.handles.first_free
        self.objects = list(guest.handles.objects)
        self.slots = <Slot *>malloc(self.slot_count * sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError
        memcpy(self.slots, guest.handles.slots, self.slot_count * sizeof(Slot))

    def __dealloc__(self):
        free(self.slots)

    def difference(self):
        """Say what is different now in one line, or return None when nothing is."""
        cdef Instance guest = self.guest
        if guest.g.state != self.state:
            return f"instance: found state {guest.g.state:#x}, expected {self.state:#x}"
        _check_there(guest)
        return self._memory_difference() or self._log_difference() or self._value_difference() or self._handle_difference()

    def rewind(self):
        """Give free slots of the handle table the generations that they had, so that later handles get the same numbers.

        Where `difference` found nothing; else the table is damaged.
        """
        cdef HandleTable table = self.guest.handles
        memset(table.slots, 0, table.slot_count * sizeof(Slot))  # those that came since were never used
        memcpy(table.slots, self.slots, self.slot_count * sizeof(Slot))
        del table.objects[self.slot_count:]
        table.slot_count, table.first_free = self.slot_count, self.first_free

    cdef object _memory_difference(self):
        cdef Instance guest = self.guest
        cdef const uint8_t *before = <const uint8_t *>PyBytes_AS_STRING(self.memory)
        cdef uint64_t at = self.lowest
        if guest.memory_bytes != <uint64_t>PyBytes_GET_SIZE(self.memory):
            return f"memory: found {guest.memory_bytes} bytes, expected {len(self.memory)}"
        if memcmp(guest.base + at, before + at, guest.memory_bytes - at) == 0:
            return None
        while guest.base[at] == before[at]:
            at += 1
        return f"memory: found {guest.base[at]:#04x} at {at:#x}, expected {before[at]:#04x}"

    cdef object _log_difference(self):
        cdef bytes now = _log_of(self.guest)
        if now == self.log:
            return None
        if now[:4] != self.log[:4]:
            return f"undo log: found its head at {int.from_bytes(now[:4], 'little')}, expected {int.from_bytes(self.log[:4], 'little')}"
        if now[4:8] != self.log[4:8]:
            return f"moved global: found {int.from_bytes(now[4:8], 'little'):#x}, expected {int.from_bytes(self.log[4:8], 'little'):#x}"
        return "segments: found one dropped that was there, or the other way round"

    cdef object _value_difference(self):
        if self.globals_:
            for name, now, before in zip(self.guest.module.host_globals, _globals_of(self.guest), self.globals_):
                if now != before:
                    return f"{name.decode()}: found {now[::-1].hex()}, expected {before[::-1].hex()}"
        if self.tables:
            for number, (now, before) in enumerate(zip(_tables_of(self.guest), self.tables)):
                if now != before:
                    places = [place for place, (one, other) in enumerate(zip(now, before)) if one != other]
                    return f"table {number}: found other entries at {places[:4] or f'a length of {len(now)}, not {len(before)}'}"
        return None

    cdef object _handle_difference(self):
        cdef HandleTable table = self.guest.handles
        cdef uint32_t slot
        cdef bint was_free
        if table.live != self.live:
            return f"handles: found {table.live} live ones, expected {self.live}"
        for slot in range(1, table.slot_count):
            was_free = slot >= self.slot_count or self.slots[slot].state == SLOT_FREE
            if was_free:
                if table.slots[slot].state != SLOT_FREE:
                    return f"handles: found slot {slot} in use, expected it free"
                if slot < self.slot_count and table.slots[slot].generation < self.slots[slot].generation:
                    return f"handles: found generation {table.slots[slot].generation} of slot {slot}, expected at least {self.slots[slot].generation}"
            elif memcmp(&table.slots[slot], &self.slots[slot], sizeof(Slot)) != 0 or table.objects[slot] is not self.objects[slot]:
                return f"handles: found something else in slot {slot}, expected its tenant of generation {self.slots[slot].generation}"
        return None


cdef int _check_there(Instance guest) except -1:
    if not guest.is_there():
        raise ClosedError(f"extension {guest.name}: found its memory gone with its store, expected one that lives")
    guest._refresh(0, 0)
    return 0


cdef bytes _log_of(Instance guest):
    """Head, moved global, and flags of dropped segments."""
    cdef uint32_t base = _base_of(guest)
    if guest.log_base == NULL:
        return b""
    return PyBytes_FromStringAndSize(<char *>guest.log_base, 8) + PyBytes_FromStringAndSize(<char *>guest.log_base + SPIN_FLAGS_AT, base - SPIN_FLAGS_AT)


cdef list _globals_of(Instance guest):
    """The bits of each mutable global, whatever its type."""
    cdef spin_extern found
    cdef spin_value value
    values = []
    for name in guest.module.host_globals:
        api.instance_export_get(guest.context, &guest.handle, <bytes>name, len(name), &found)
        api.global_get(guest.context, &found.of.global_, &value)
        values.append(PyBytes_FromStringAndSize(<char *>&value.of, VALUE_BYTES[min(value.kind, 4)]))
    return values


cdef list _tables_of(Instance guest):
    """Identities of the entries of each table that its code writes."""
    tables = [name for name, (kind, _) in guest.module.exports.items() if kind == "table" and name.startswith("spinrt:table/")]
    return [_entries_of(guest, name.encode()) for name in tables]


cdef list _entries_of(Instance guest, bytes name):
    cdef spin_extern found
    cdef spin_value value
    cdef uint64_t place = 0
    entries = []
    api.instance_export_get(guest.context, &guest.handle, name, len(name), &found)
    while api.table_get(guest.context, &found.of.table, place, &value):
        entries.append((value.kind, value.of.func.store_id, <size_t>value.of.func.opaque if value.of.func.store_id else 0))
        place += 1
    return entries


cdef spin_log *_log_for(Instance guest) except NULL:
    if guest.log_base == NULL:
        raise StateError(f"extension {guest.name}: found no undo log, expected one")
    return guest.g.log


def has_log(Instance guest not None):
    """Whether what it changes can be rolled back."""
    return guest.log_base != NULL


def set_countdown(Instance guest not None, uint64_t count):
    """Let the instruction of that number (from 1) that changes state trap in its place, in a module made to count; 0: none."""
    _log_for(guest).countdown = count


def countdown(Instance guest not None):
    """What is left of the countdown; 0 when the trap has come."""
    return _log_for(guest).countdown


def log_records(Instance guest not None):
    """Records in its undo log now."""
    return (_log_for(guest).at.head - guest.g.idle.at.head) // RECORD_BYTES


def shorten_log(Instance guest not None, uint64_t records):
    """Leave room for so many records in its undo log, and return what `restore_log` takes to give back the rest; at rest only."""
    cdef spin_log *log = _log_for(guest)
    cdef uint32_t start = log.at.head
    _check_log_at_rest(guest)
    log.at.head = <uint32_t>max(<uint64_t>start, guest.log_bytes - min(records * RECORD_BYTES, guest.log_bytes))
    guest.g.idle.at.head = log.at.head
    return start


def restore_log(Instance guest not None, uint32_t start):
    """Take back what `shorten_log` did."""
    _check_log_at_rest(guest)
    _log_for(guest).at.head = guest.g.idle.at.head = start


cdef int _check_log_at_rest(Instance guest) except -1:
    if guest.g.state or _log_for(guest).state != guest.g.idle.state:
        raise StateError(f"extension {guest.name}: found it running or held, expected it at rest")
    return 0


def make_late(Instance guest not None):
    """Set the clock of the call that runs in it back so far that it ends at the next look at it."""
    cdef spin_frame *frame = guest.store.state.frame
    if frame == NULL:
        raise StateError(f"extension {guest.name}: found nothing running, expected a call that can be late")
    spin_make_late(frame)
    api.engine_increment_epoch(engine)


def run_late(Instance guest not None, bint late):
    """Let its calls be late from their first look at the clock on, or give them their deadline back."""
    guest.g.deadline_ticks = 0 if late else guest.limits.deadline_ticks
    spin_new_version(&guest.store.state)  # rows hold the deadline
    if late:
        api.engine_increment_epoch(engine)
