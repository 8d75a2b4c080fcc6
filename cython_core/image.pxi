# Images: the state of an instance at rest as plain values, to be put into another instance of the same code.
#
# What a module writes into its tables is no number and is not in it.

def read_image(Instance guest not None):
    """What an instance holds between calls: (memory, globals, moved, flags).

    ``memory`` are the bytes of its linear memory; ``globals`` pairs of name and 64 bits of the mutable globals that it exports to the host;
    ``moved`` the global that its undo log holds and ``flags`` the bytes that say which segments were dropped: 0 and empty
    without a log.

    Raises:
        StateError: It is gone: nothing can be read of what was left behind by its store.
    """
    if not guest.is_there():
        raise StateError(f"extension {guest.name}: found its instance left behind by the store, expected one to read")
    guest._refresh(0, 0)
    memory = PyBytes_FromStringAndSize(<char *>guest.base, guest.memory_bytes) if guest.has_memory else b""
    globals_ = [(name.decode(), _read_global(guest, name)) for name in guest.module.host_globals]
    if guest.log_base == NULL:
        return memory, globals_, 0, b""
    flags = PyBytes_FromStringAndSize(<char *>guest.log_base + SPIN_FLAGS_AT, _base_of(guest) - SPIN_FLAGS_AT)
    return memory, globals_, guest.g.log.at.moved, flags


def write_image(Instance guest not None, bytes memory not None, list globals_ not None, uint32_t moved, bytes flags not None):
    """Put an image into a fresh instance of the same code under the same limits.

    Raises:
        UsageError: It is not of this code: another size of memory, other globals, other flags.
    """
    cdef size_t size
    guest._refresh(0, 0)
    size = guest.memory_bytes if guest.has_memory else 0
    if <size_t>len(memory) < size or len(memory) % PAGE_BYTES or (memory and not guest.has_memory):
        raise UsageError(f"extension {guest.name}: image: found {len(memory)} bytes of memory, expected whole pages, at least {size} bytes")
    if sorted([name for name, _ in globals_]) != sorted([name.decode() for name in guest.module.host_globals]):
        raise UsageError(f"extension {guest.name}: image: found globals {', '.join([name for name, _ in globals_])}, expected those of the module")
    if len(flags) != (0 if guest.log_base == NULL else _base_of(guest) - SPIN_FLAGS_AT):
        raise UsageError(f"extension {guest.name}: image: found {len(flags)} flags of segments, expected those of the module")
    _grow_to(guest, len(memory))
    memcpy(guest.base, PyBytes_AS_STRING(memory), len(memory))
    for name, bits in globals_:
        _write_global(guest, name.encode(), bits)
    if guest.log_base != NULL:
        memcpy(guest.log_base + SPIN_FLAGS_AT, PyBytes_AS_STRING(flags), len(flags))
        guest.g.log.at.moved = moved
        guest.g.idle.state = guest.g.log.state


cdef inline uint32_t _base_of(Instance guest) noexcept:
    """Where its records begin."""
    return guest.g.idle.at.head


cdef int _grow_to(Instance guest, size_t size) except -1:
    cdef uint64_t before = 0
    cdef spin_error *error
    if size <= guest.memory_bytes or not guest.has_memory:
        return 0
    error = api.memory_grow(guest.context, &guest.memory, (size - guest.memory_bytes) // PAGE_BYTES, &before)
    if error != NULL:
        raise UsageError(f"extension {guest.name}: image: its {size} bytes of memory do not fit: {_first_line(_take_error(error))}")
    guest._refresh(0, 0)
    guest.memory_bytes = size
    return 0


def read_handles(Instance guest not None):
    """The handle table as (slots, free): of each slot from 1 on its generation, resource (empty when it is free) and whether it is
    owned; and the free slots in the order in which they are given out."""
    cdef HandleTable table = guest.handles
    cdef uint32_t slot
    slots = []
    for slot in range(1, table.slot_count):
        taken = table.slots[slot].state == SLOT_OWN or table.slots[slot].state == SLOT_BORROW
        slots.append((table.slots[slot].generation, _resource_name(table.slots[slot].type_id) if taken else "", table.slots[slot].state == SLOT_OWN))
    free_slots, slot = [], table.first_free
    while slot:
        free_slots.append(slot)
        slot = table.slots[slot].next_free
    # Dropped in a transaction that is still open: free when it is committed, and not for the guest to use.
    free_slots += [slot for slot in range(1, table.slot_count) if table.slots[slot].state == SLOT_SUSPENDED]
    return slots, free_slots


def write_handles(Instance guest not None, list slots not None, list free_slots not None, list objects not None):
    """Give a fresh instance such a table; `objects` are what the taken slots name, in order.

    Raises:
        UsageError: It is no table: it holds too much, or its free slots are not its free slots.
    """
    cdef HandleTable table = guest.handles
    cdef uint32_t slot, number
    cdef list left = list(objects)
    if table.slot_count != 1 or len(slots) > table.handles_max:
        raise UsageError(f"extension {guest.name}: image: found {len(slots)} handles, expected at most {table.handles_max}, for an instance without any")
    empty = [position + 1 for position, one in enumerate(slots) if not one[1]]
    if sorted(free_slots) != empty or len(objects) != len(slots) - len(empty):
        raise UsageError(f"extension {guest.name}: image: found free handles that are not those of its table, expected the same")
    for generation, resource, own in slots:
        slot = table.slot_count
        table.slot_count += 1
        table.slots[slot].generation = generation
        table.slots[slot].state = SLOT_FREE if not resource else SLOT_OWN if own else SLOT_BORROW
        table.slots[slot].type_id = resource_id(resource) if resource else 0
        table.objects.append(left.pop(0) if resource else None)
        table.live += 1 if resource else 0
    table.first_free = 0
    for number in reversed(free_slots):
        table.slots[number].next_free = table.first_free
        table.first_free = number


def list_objects(Instance guest not None):
    """What the taken slots of its handle table name, in order of the slots."""
    cdef HandleTable table = guest.handles
    cdef uint32_t slot
    return [table.objects[slot] for slot in range(1, table.slot_count) if table.slots[slot].state == SLOT_OWN or table.slots[slot].state == SLOT_BORROW]
