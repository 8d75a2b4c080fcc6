# What a guard may have changed of its guest, kept before it runs and put back afterwards: memory and mutable globals.
#
# Copying everything is slow (about 2 µs for 64 KiB each way) and simple. A guard that provably changes nothing needs none of it.

@cython.final
cdef class Saved:
    """The memory and the mutable globals of an instance as they were; calling it puts them back. Made by `save`."""

    cdef Instance guest
    cdef bytes memory
    cdef list globals_

    def __call__(self):
        """Put everything back, unless the instance was broken meanwhile.

        Raises:
            QuotaExceeded: The guest has grown its memory, which nothing takes back; the instance is broken.
        """
        cdef Instance guest = self.guest
        if guest.g.state & (SPIN_BROKEN | SPIN_CLOSED) or not guest.is_there():
            return
        guest._refresh(0, 0)
        if guest.memory_bytes != <size_t>len(self.memory):
            guest.mark_broken()
            raise QuotaExceeded(
                f"extension {guest.name}: found a guard that grew its memory from {len(self.memory)} to {guest.memory_bytes} bytes, expected it to change nothing"
            )
        memcpy(guest.base, PyBytes_AS_STRING(self.memory), guest.memory_bytes)
        for name, number in self.globals_:
            _write_global(guest, name, number)


def save(Instance guest not None):
    """Keep what a guard may change of an instance; see `Saved`."""
    cdef Saved saved = Saved.__new__(Saved)
    if guest.g.state & ~<uint32_t>SPIN_BUSY or not guest.is_there():
        guest.refuse()
    saved.guest = guest
    guest._refresh(0, 0)
    saved.memory = PyBytes_FromStringAndSize(<char *>guest.base, guest.memory_bytes)
    saved.globals_ = [(name, _read_global(guest, name)) for name in guest.module.host_globals]
    return saved
