# Handles: how a guest names a resource.
#
# A handle is an i32: the low 15 bits of the slot's generation in bits 16 to 30, the slot in bits 0 to 15; slot 0 is never
# used, so 0 is no handle. A slot that was freed comes back with the next generation, and a handle of an older one is refused
# by name, for 32,767 tenants of its slot. Generations only go up. The table belongs to one instance: a number means nothing
# anywhere else, and whatever a guest hits in its own table it was given.
# A Python object may name a slot, too (`ExternalReference`); it holds the whole generation, which never comes back.
#
# Own handles live until they are dropped or given away. Borrow handles live until the call that they were lent to ends:
# the table drops them then (docs/decisions/0002-borrows.md).

cdef enum:
    SLOT_BITS = 16
    SLOT_MASK = (1 << SLOT_BITS) - 1
    GENERATION_MASK = (1 << 15) - 1
    SLOT_FREE = 0
    SLOT_OWN = 1
    SLOT_BORROW = 2
    SLOT_SUSPENDED = 3  # dropped in a transaction that is still open
    CHANGE_ADD = 0
    CHANGE_DROP = 1


cdef struct Slot:
    uint64_t generation
    uint32_t type_id
    uint32_t next_free
    uint8_t state


cdef struct HandleChange:
    uint32_t slot
    uint32_t kind


@cython.final
cdef class HandleTable:
    """The handles of one instance; at most ``handles_max`` at a time."""

    cdef Slot *slots
    cdef list objects
    cdef uint32_t slot_count
    cdef uint32_t first_free
    cdef readonly uint32_t live
    cdef readonly uint32_t handles_max
    cdef list borrowed
    cdef HandleChange *undo     # what the open transaction did, in order
    cdef uint32_t changes, undo_max
    cdef object __weakref__

    def __cinit__(self, uint32_t handles_max):
        self.handles_max = min(handles_max, <uint32_t>SLOT_MASK - 1)
        self.slots = <Slot *>calloc(self.handles_max + 1, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError
        self.objects = [None]
        self.slot_count = 1
        self.first_free = 0
        self.borrowed = []

    def __dealloc__(self):
        free(self.slots)
        free(self.undo)

    cdef uint32_t add(self, object target, uint32_t type_id, uint8_t state) except 0:
        """Put an object into a free slot and return its handle."""
        cdef uint32_t slot = self._take_slot()
        self.slots[slot].state = state
        self.slots[slot].type_id = type_id
        self.objects[slot] = target
        self.live += 1
        cdef uint32_t handle = self._handle(slot)
        if state == SLOT_BORROW:
            self.borrowed.append(handle)
        return handle

    cdef inline uint32_t _handle(self, uint32_t slot) noexcept:
        return <uint32_t>((self.slots[slot].generation & GENERATION_MASK) << SLOT_BITS) | slot

    cdef uint32_t _take_slot(self) except 0:
        cdef uint32_t slot = self.first_free
        if slot != 0:
            self.first_free = self.slots[slot].next_free
            return slot
        if self.slot_count > self.handles_max:
            raise QuotaExceeded(
                f"handle table: found {self.live} live handles and {self.handles_max - self.live} dropped in this call, "
                f"expected at most {self.handles_max} together",
                hint="raise limits.handles",
            )
        slot = self.slot_count
        self.slot_count += 1
        self.objects.append(None)
        return slot

    cdef inline uint32_t live_slot(self, uint32_t handle, uint32_t type_id) noexcept:
        """The slot of a handle that a guest gave, or 0 when `find` would refuse it."""
        cdef uint32_t slot = handle & SLOT_MASK
        if slot == 0 or slot >= self.slot_count or handle != self._handle(slot):
            return 0
        if self.slots[slot].state == SLOT_FREE or self.slots[slot].state == SLOT_SUSPENDED or self.slots[slot].type_id != type_id:
            return 0
        return slot

    cdef uint32_t find(self, uint32_t handle, uint32_t type_id) except 0:
        """Check a handle that a guest gave, and return its slot."""
        cdef uint32_t slot = self.live_slot(handle, type_id)
        if slot != 0:
            return slot
        slot = handle & SLOT_MASK
        if slot == 0 or slot >= self.slot_count or handle >> SLOT_BITS > self.slots[slot].generation:
            raise WrongDomain(f"handle {handle:#x}: found no such handle in this extension, expected one that it was given")
        if handle != self._handle(slot) or self.slots[slot].state == SLOT_FREE or self.slots[slot].state == SLOT_SUSPENDED:
            raise CapabilityRevoked(f"handle {handle:#x}: it was dropped, or its call has ended")
        raise WrongDomain(
            f"handle {handle:#x}: found a {_resource_name(self.slots[slot].type_id)}, expected a {_resource_name(type_id)}"
        )

    cdef int release(self, uint32_t slot) except -1:
        """Free a slot; its next handle has the next generation."""
        self.objects[slot] = None
        self.slots[slot].state = SLOT_FREE
        self.live -= 1
        self.slots[slot].generation += 1
        self.slots[slot].next_free = self.first_free
        self.first_free = slot
        return 0

    # ------------------------------------------------------------------------------------------------- transactions

    cdef int note(self, uint32_t slot, uint32_t kind) except -1:
        """Remember a change, so that it can be taken back."""
        cdef HandleChange *wider
        if self.changes == self.undo_max:
            wider = <HandleChange *>realloc(self.undo, max(8, 2 * self.undo_max) * sizeof(HandleChange))
            if wider == NULL:
                raise MemoryError
            self.undo, self.undo_max = wider, max(8, 2 * self.undo_max)
        self.undo[self.changes].slot = slot
        self.undo[self.changes].kind = kind
        self.changes += 1
        return 0

    cdef int suspend(self, uint32_t slot) noexcept:
        """Drop a handle for as long as it is not known whether it is dropped: object, number and slot stay."""
        self.slots[slot].state = SLOT_SUSPENDED
        self.live -= 1
        return 0

    cdef int roll_back(self, uint32_t mark) except -1:
        """Take back the changes behind the first `mark`, the last one first."""
        cdef uint32_t slot
        while self.changes > mark:
            self.changes -= 1
            slot = self.undo[self.changes].slot
            if self.undo[self.changes].kind == CHANGE_ADD:
                self.release(slot)
            else:
                self.slots[slot].state = SLOT_OWN
                self.live += 1
        return 0

    cdef list commit(self):
        """Free what was dropped. Returns the objects: what ends with them may raise events, and must not until all is committed."""
        cdef uint32_t number
        dropped = []
        for number in range(self.changes):
            if self.undo[number].kind == CHANGE_DROP:
                dropped.append(self.objects[self.undo[number].slot])
                self.live += 1
                self.release(self.undo[number].slot)
        self.changes = 0
        return dropped

    cdef int end_borrows(self) except -1:
        """Drop what is left of the handles lent for the call that ends."""
        cdef uint32_t handle, slot
        for handle in self.borrowed:
            slot = handle & SLOT_MASK
            if handle == self._handle(slot) and self.slots[slot].state == SLOT_BORROW:
                self.release(slot)
        self.borrowed.clear()
        return 0
