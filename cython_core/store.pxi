# Stores: where instances live, and what runs in them now.
#
# One store serves a runtime, so that a stub can call all of its instances and they can call each other. The engine frees
# nothing of a store before the store: `collect` moves the live instances to a fresh one, between two calls. Nothing outside points
# into an engine store: what was looked up there carries the generation and is looked up again when that has moved on.

@cython.final
cdef class Store:
    """A store of the engine.

    Args:
        memory_bytes, table_entries: Bounds of every memory and table in it, for modules without bounds of their own; 0: none.

    Attributes:
        live, dead: Instances that can be called, and those that only wait for `collect`.
        dead_bytes: Memory that the dead ones hold, as far as the host has seen it.
        generation: How often it was collected.
        on_idle: Called without arguments when something waited for the end of what ran; must not raise.
    """

    cdef spin_store *store
    cdef spin_context *context
    cdef spin_state state
    cdef unsigned long thread   # the one that made it, and may enter it
    cdef object pending     # exception of a host function on its way through guests
    cdef object instances   # a WeakSet
    cdef list retired       # instances and rows replaced while something was running, kept until nothing is
    cdef public object on_idle
    cdef bint interrupted   # a signal handler runs, from within a look at a guest
    cdef uint64_t born      # instances so far: the order in which they were made
    cdef int64_t memory_bytes_max, table_entries_max
    cdef readonly uint32_t live, dead
    cdef readonly uint64_t dead_bytes

    def __cinit__(self, uint64_t memory_bytes=0, uint32_t table_entries=0):
        cdef size_t low = 0, size = 0
        self.memory_bytes_max = <int64_t>memory_bytes if memory_bytes else -1
        self.table_entries_max = table_entries if table_entries else -1
        self.thread = PyThread_get_thread_ident()
        self.instances = _WeakSet()
        self.retired = []
        if not spin_stack_find(&low, &size):
            raise InternalError("store: the system does not tell where this thread's stack lies")
        self.state.stack_low = low + STACK_NEEDED_BYTES
        self.state.stack_span = size - STACK_NEEDED_BYTES if size > STACK_NEEDED_BYTES else 0
        self.state.signalled = _run_signal_handlers
        self.state.owner = <void *>self
        self.state.version = self.state.ready = 1
        self.store = self._new_store()
        self.context = api.store_context(self.store)

    def __dealloc__(self):
        if self.store != NULL:
            api.store_delete(self.store)

    cdef spin_store *_new_store(self) except NULL:
        cdef spin_store *made = api.store_new(engine, NULL, NULL)
        api.store_limiter(made, self.memory_bytes_max, self.table_entries_max, INSTANCES_MAX, -1, -1)
        api.store_on_tick(made, _on_tick, &self.state, NULL)
        api.context_set_epoch_deadline(api.store_context(made), 1)
        return made

    @property
    def generation(self):
        return self.state.generation

    @property
    def running(self):
        """Whether guest code of this store is on the stack, or an instance has changes that are not committed."""
        return self.state.frame != NULL or self.state.held != 0

    cdef int refuse_entry(self, str who) except -1:
        """Say why `spin_may_enter` does not hold."""
        if self.interrupted:
            raise UsageError(
                f"extension {who}: found a call from a signal handler that interrupted a guest of the same store, expected none",
                hint="let the handler leave a note (an event loop's add_signal_handler does), and raise behind it",
            )
        if self.thread != PyThread_get_thread_ident():
            raise UsageError(f"extension {who}: found a call from another thread, expected the one that loaded it")
        raise QuotaExceeded(
            f"extension {who}: found less than {STACK_NEEDED_BYTES} bytes of the thread's stack left, expected more",
            hint="nest fewer raises, or give the thread a larger stack",
        )

    cdef int push(self, spin_frame *frame, const spin_slot *slot) except -1:
        """Begin to run something, where `spin_may_enter` holds; every `push` that returned is followed by a `pop`."""
        if spin_ticker_touch():
            raise InternalError("deadline ticker: its thread could not be started")
        spin_push(&self.state, frame, slot, &_first_slot, NULL)
        frame.own.dispatcher = NULL
        frame.own.rows = NULL
        return 0

    cdef int pop(self, spin_frame *frame) except -1:
        spin_pop(&self.state, frame)
        if frame.outer == NULL and self.state.attention:
            self.end_outermost()
        return 0

    cdef int retire(self, object used) except -1:
        """What runs now may use it: keep it until nothing runs."""
        if self.state.frame != NULL:
            self.retired.append(used)
            self.state.attention = 1
        return 0

    def wake_when_idle(self):
        """Call ``on_idle`` when nothing of this store is on the stack any more."""
        self.state.attention = 1

    cdef int end_outermost(self) except -1:
        self.state.attention = 0
        self.retired.clear()
        if self.on_idle is not None:
            self.on_idle()
        return 0

    cdef object take_pending(self):
        failure, self.pending = self.pending, None
        return failure

    def collect(self):
        """Free what dead instances hold, by moving the live ones to a fresh engine store.

        Nothing changes that a guest or a caller could see. Broken instances are not moved: nothing runs in them.

        Raises:
            StateError: Guest code is running; nothing was moved.
            ExtensionError, LinkError: One could not be moved; all stay where they were.
        """
        cdef Instance guest
        cdef spin_store *fresh
        cdef spin_store *old = self.store
        cdef _Moved moved
        if self.running:
            raise StateError("store: found guest code running or a transaction open, expected none while instances are moved")
        living = sorted([one for one in self.instances if not one.broken], key=_birth)
        fresh = self._new_store()
        copies = {}
        try:
            for guest in living:
                copies[guest] = _copy_to(guest, api.store_context(fresh), copies)
        except BaseException:
            api.store_delete(fresh)
            raise
        for guest in living:
            _adopt(guest, copies[guest], api.store_context(fresh))
        for guest in list(self.instances):
            if guest.broken:
                guest._count_out()
                guest.lose_log()
        self.store, self.context = fresh, api.store_context(fresh)
        self.state.generation += 1
        spin_new_version(&self.state)
        self.live, self.dead, self.dead_bytes = len(living), 0, 0
        api.store_delete(old)
        return len(living)


from weakref import WeakSet as _WeakSet

cdef enum:
    INSTANCES_MAX = 1 << 24


def _birth(Instance guest):
    return guest.born


cdef bint _run_signal_handlers(spin_state *state) noexcept:
    """Run what the interpreter has pending (Ctrl-C); whether it raised, and left that in the store."""
    cdef Store store = <Store>state.owner
    cdef size_t span = state.stack_span
    cdef spin_guest *guest = state.frame.what.slots[state.frame.what.progress[0]].guest
    cdef uint32_t was = spin_mark_busy(guest)
    state.stack_span = 0  # the engine cannot be entered from within its own look
    store.interrupted = True
    try:
        PyErr_CheckSignals()
        return False
    except BaseException as failure:
        store.pending = failure
        return True
    finally:
        store.interrupted = False
        state.stack_span = span
        spin_mark_idle(guest, was)


cdef spin_error *_on_tick(spin_context *context, void *data, uint64_t *ticks, uint8_t *kind) noexcept nogil:
    cdef spin_state *state = <spin_state *>data
    ticks[0] = 1
    kind[0] = 0
    state.ended = spin_look(state)
    if state.ended != SPIN_RUNS:
        return api.error_new(b"ended")
    spin_ticker_touch()
    if state.sample != NULL:
        state.sample(state)
    return NULL
