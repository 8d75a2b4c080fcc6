# Having the system write out what is dirty in a file, which is less than a sync (spinrt.storage.write_out says what for).

cdef extern from *:
    """
    #include <fcntl.h>

    static void spin_write_out(int descriptor, int64_t offset, int64_t length, int wait) {
    #ifdef SYNC_FILE_RANGE_WRITE
      unsigned int flags = SYNC_FILE_RANGE_WRITE;
      if (wait) flags |= SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WAIT_AFTER;
      (void)!sync_file_range(descriptor, offset, length, flags);
    #else
      (void)descriptor, (void)offset, (void)length, (void)wait;
    #endif
    }
    """
    void spin_write_out(int descriptor, int64_t offset, int64_t length, bint wait) nogil


def write_out(int descriptor, int64_t offset, int64_t length, bint wait):
    """Begin to write what is dirty in so many bytes of a file (0: all to its end) to its device; with `wait` return when that is written.

    Nothing is durable by it, and nothing is said about errors: both are the next sync's. Only one without `wait` may be on the
    descriptor that is synced, since who waits is told of an error in place of the sync. Does nothing where the system cannot do it.
    """
    with nogil:
        spin_write_out(descriptor, offset, length, wait)
