# The thread at the end of a log: it writes what was appended and syncs it, and holds the GIL for none of that.
#
# A thread that comes back from the kernel and wants the GIL is woken each time the event loop lets go of it between two
# callbacks, finds it taken again, and sleeps; both threads pay for it. So a batch is handed over as plain buffers, and its end is
# told through an event descriptor that the loop watches (docs/decisions/0009).

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, const void *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, const void *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_broadcast(pthread_cond_t *)
    int pthread_cond_destroy(pthread_cond_t *)

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len
    Py_ssize_t writev(int descriptor, const iovec *buffers, int count)

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int descriptor)
    int close_descriptor "close"(int descriptor)

cdef extern from "<sys/eventfd.h>" nogil:
    int EFD_CLOEXEC, EFD_NONBLOCK
    int make_eventfd "eventfd"(unsigned int value, int flags)
    int eventfd_read(int descriptor, uint64_t *value)
    int eventfd_write(int descriptor, uint64_t value)

cdef extern from "<errno.h>" nogil:
    int last_error "errno"
    int EINTR

cdef extern from "<string.h>" nogil:
    char *strerror(int error)


cdef enum:
    IOVECS_MAX = 1024  # buffers that one writev takes on Linux


cdef enum Order:
    ORDER_NONE
    ORDER_BATCH     # write the buffers and sync
    ORDER_CALL      # let Python do something
    ORDER_END


@cython.final
cdef class LogWriter:
    """Writes batches of a log's records, one at a time, on the thread that is in `serve`.

    Attributes:
        descriptor: Becomes readable when a batch is done; `acknowledge` makes it unreadable again.
    """

    cdef readonly int descriptor
    cdef pthread_mutex_t lock
    cdef pthread_cond_t changed
    cdef Order order
    cdef bint busy      # a batch was begun and is not done
    cdef list entries   # of the batch: they own what the buffers point to
    cdef iovec *buffers
    cdef Py_ssize_t count
    cdef int file
    cdef int write_error
    cdef int sync_error

    def __cinit__(self):
        self.descriptor = -1
        pthread_mutex_init(&self.lock, NULL)
        pthread_cond_init(&self.changed, NULL)

    def __init__(self):
        if self.descriptor >= 0:
            raise StateError("log writer: made already")
        self.descriptor = make_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.descriptor < 0:
            reason = strerror(last_error).decode()
            raise DeviceFailed(f"log writer: event descriptor: {reason}", hint="raise the limit of open files")

    def __dealloc__(self):
        if self.descriptor >= 0:
            close_descriptor(self.descriptor)
        free(self.buffers)
        pthread_cond_destroy(&self.changed)
        pthread_mutex_destroy(&self.lock)

    # ------------------------------------------------------------------------------------------ for its own thread

    def serve(self):
        """Write batches until something else is ordered: true for `call`, false for `end`."""
        cdef Order order
        with nogil:
            order = self.next_order()
            while order == ORDER_BATCH:
                self.write_batch()
                order = self.next_order()
        return order == ORDER_CALL

    cdef Order next_order(self) noexcept nogil:
        cdef Order order
        pthread_mutex_lock(&self.lock)
        while self.order == ORDER_NONE:
            pthread_cond_wait(&self.changed, &self.lock)
        order = self.order
        self.order = ORDER_NONE
        pthread_mutex_unlock(&self.lock)
        return order

    cdef void write_batch(self) noexcept nogil:
        cdef int write_error = _write_all(self.file, self.buffers, self.count)
        cdef int sync_error = 0
        while not write_error and fdatasync(self.file) < 0:
            if last_error != EINTR:
                sync_error = last_error
                break
        pthread_mutex_lock(&self.lock)
        self.write_error, self.sync_error = write_error, sync_error
        self.busy = False
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.lock)
        eventfd_write(self.descriptor, 1)

    # ---------------------------------------------------------------------------------------- for the other threads

    def begin(self, int file, LogBuffer buffer not None):
        """Have what waits in a buffer written at the end of a file, and the file synced; `wait` ends it.

        Args:
            file: Descriptor of a file that is open for appending, and stays open until `wait`.
            buffer: Its pending entries are taken, all of one segment; when this raises, none was.

        Returns:
            The entries.

        Raises:
            StateError: The batch before was not waited for, or there is an order that the thread has not taken.
        """
        if self.entries is not None or self.order != ORDER_NONE:
            raise StateError("log writer: found a batch or an order under way, expected none")
        cdef Py_ssize_t count = 2 * len(buffer.pending)
        cdef iovec *buffers = <iovec *>malloc((count + 1) * sizeof(iovec))
        if buffers == NULL:
            raise MemoryError()
        free(self.buffers)
        self.buffers, self.count, self.file = buffers, count, file
        self.entries = buffer.take()
        cdef LogEntry entry
        for entry in self.entries:
            _point(buffers, entry.header)
            _point(buffers + 1, entry.body)
            buffers += 2
        self.busy = True
        self.give(ORDER_BATCH)
        return self.entries

    def wait(self):
        """Wait until the batch is done; return the error numbers of writing and of syncing, 0 for none.

        After an error of writing any part of the batch may be in the file, and nothing was synced.

        Raises:
            StateError: No batch was begun since the last call.
        """
        if self.entries is None:
            raise StateError("log writer: found no batch to wait for, expected one")
        with nogil:
            pthread_mutex_lock(&self.lock)
            while self.busy:
                pthread_cond_wait(&self.changed, &self.lock)
            pthread_mutex_unlock(&self.lock)
        self.entries = None
        return self.write_error, self.sync_error

    def acknowledge(self):
        """The end of a batch was seen. Does nothing when there was none."""
        cdef uint64_t value
        eventfd_read(self.descriptor, &value)

    def call(self):
        """Have `serve` return true. Only while the thread has nothing to do, as `begin`."""
        self.give(ORDER_CALL)

    def end(self):
        """Have `serve` return false; as `call`."""
        self.give(ORDER_END)

    cdef void give(self, Order order) noexcept:
        pthread_mutex_lock(&self.lock)
        self.order = order
        pthread_cond_broadcast(&self.changed)
        pthread_mutex_unlock(&self.lock)


cdef inline void _point(iovec *buffer, bytes octets) noexcept:
    buffer.iov_base, buffer.iov_len = PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets)


cdef int _write_all(int file, iovec *buffers, Py_ssize_t count) noexcept nogil:
    """Write all buffers, which are changed; return 0 or an error number."""
    cdef Py_ssize_t written
    while count:
        written = writev(file, buffers, <int>(count if count < IOVECS_MAX else IOVECS_MAX))
        if written < 0:
            if last_error != EINTR:
                return last_error
            continue
        while count and <size_t>written >= buffers.iov_len:
            written -= buffers.iov_len
            buffers += 1
            count -= 1
        if written:
            buffers.iov_base = <char *>buffers.iov_base + written
            buffers.iov_len -= written
    return 0
