# Host functions served in C: the everyday case of a call, without Python frames and with no object that is not kept.
#
# A native function stands in front of a Python closure. It looks first whether all of a call is as it should be (handle,
# texts, quotas, room in the journal) and touches nothing until it knows; if anything is not, it says so and the closure serves
# the call the general way, which is where every refusal and every error is made. What the guest sees is the same either
# way. `HostFunction` has taken the call from ``host_calls`` and checked the place of the result before.

cdef class NativeFunction:
    """A host function with a fast path; called from Python it is its closure.

    Attributes:
        signature: Core type of the import that it reads (`FunctionPlan.import_signature`).
        closure: Serves every call that `serve` leaves alone.
    """

    cdef readonly str signature
    cdef readonly object closure
    # For what never refuses, needs no memory and touches no Python object: called instead of `serve` when all quotas are in
    # order. NULL: there is no such way.
    cdef void (*quick)(PyObject *function, spin_state *state, spin_guest *guest, spin_raw *raw) noexcept

    def __call__(self, *arguments):
        return self.closure(*arguments)

    cdef int _set(self, str signature, object closure) except -1:
        self.signature, self.closure = signature, closure
        return 0

    cdef int check(self, FunctionPlan plan) except -1:
        """A native function reads flat values by position: the plan must be the one that it was written for."""
        if plan.import_signature != self.signature:
            raise InternalError(f"{plan.name}: found core type {plan.import_signature}, expected {self.signature} for its native function")
        return 0

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        """Serve one call and return 1, or change nothing and return 0.

        Args:
            raw: The flat arguments, as the guest gave them.
            pointer: Where the result goes, if it goes to memory: room for it was checked.
        """
        raise NotImplementedError


cdef inline const uint8_t *bytes_at(Instance guest, uint32_t pointer, uint32_t length) noexcept:
    """The guest's bytes from `pointer`, or NULL when they are not all in its memory as far as it is known here."""
    return NULL if <uint64_t>pointer + length > guest.memory_bytes else guest.base + pointer
