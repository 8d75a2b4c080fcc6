# Dispatch: what a raise does (docs/design/dispatch.md, "The walk"), one handler after the other or through the stub.

cdef enum:
    SAMPLE_EVERY = 1024         # of so many raises one goes through the walk and is timed, handler by handler

# Stands for: no answer yet.
cdef object _NOTHING = object()


@cython.final
cdef class Dispatcher:
    """Raises one event.

    Args:
        name: Of the event.
        plan: Its type.
        on_fault: Called as ``on_fault(domain, error)``; the walk goes on if it returns.
        skips: It always does, so that nobody needs to be told of a trap that an entry's `Tally` takes.
        on_nothing: Called when there is no result; returns the result, or raises.
        raise_slowly: Called as ``raise_slowly(*arguments)`` for a raise that is not `plain`, or meets handlers of the host; returns the folded result.
        raises: Those of the runtime.

    Attributes:
        table: The handlers; assigning takes effect for raises that begin later. Without one every raise is slow.
        fold: Results to one result; ``None``: the last. Not asked when there are none.
        plain: Whether `fold` and ``on_nothing`` need nothing of the raise; if not, every raise by `raise_` is slow.
        long: Give up the interpreter's lock while handlers run through the stub or alone.
        tier_max: The highest tier that may serve a raise (2); for tests.
    """

    cdef readonly str name
    cdef readonly FunctionPlan plan
    cdef str signature
    cdef int parameter_count
    cdef ScalarPlan result      # of a flat event
    cdef Table _table
    cdef readonly object on_fault, on_nothing, raise_slowly
    cdef Raises raises
    cdef object _fold
    cdef bint _plain
    cdef int _tier_max
    cdef bint _long, _skips
    cdef uint32_t sample_in     # so many raises from now one is timed, but for those of `quick`
    cdef spin_quick quick       # of one handler without guards, plain, with no fold and not long: nothing is left to decide
    cdef _Stub stub

    def __init__(self, str name not None, FunctionPlan plan not None, *, object on_fault, object on_nothing, object raise_slowly, Raises raises not None, bint skips=False):
        self.name, self.plan, self.signature = name, plan, plan.export_signature
        self.on_fault, self.on_nothing, self.raise_slowly = on_fault, on_nothing, raise_slowly
        self.raises, self.parameter_count = raises, plan.parameter_count
        self.result = plan.result if plan.is_flat else None
        self._tier_max, self._plain, self._skips = 2, True, skips
        self._prepare_quick()
        self._table = Table()

    cdef int _prepare_quick(self) except -1:
        cdef Py_ssize_t position
        self.sample_in = SAMPLE_EVERY
        if self.plan.is_flat:
            for position in range(self.parameter_count):
                (<ScalarPlan>self.plan.scalars[position]).bound(&self.quick.scalars[position])
            self.quick.result.none = self.result is None
            if self.result is not None:
                self.result.keep(&self.quick.result)
        return 0

    @property
    def table(self):
        return self._table

    @table.setter
    def table(self, Table table):
        before, self._table = self._table, table
        if before is not None and (table is None or before.rows is not table.rows):
            before.rows.settle()
            before.rows.outlive_raise()
            if self.stub is not None:
                self.stub.rows = None  # it would keep alive what was uninstalled
        self._look()

    @property
    def fold(self):
        return self._fold

    @fold.setter
    def fold(self, object fold):
        self._fold = fold
        self._look()

    @property
    def plain(self):
        return self._plain

    @plain.setter
    def plain(self, bint plain):
        self._plain = plain
        self._look()

    @property
    def long(self):
        return self._long

    @long.setter
    def long(self, bint long):
        self._long = long
        self._look()

    @property
    def tier_max(self):
        return self._tier_max

    @tier_max.setter
    def tier_max(self, int tier):
        self._tier_max = tier
        self._look()

    cdef int _look(self) except -1:
        cdef Table table = self._table
        if self.quick.single != NULL:
            self.sample_in = max(<int64_t>(self.quick.sample_at - self.quick.single.walks), 1)
        self.quick.single, self.quick.count = NULL, -1
        if self._plain and self._fold is None and not self._long and table is not None and table.count == 1 and not table.rows.guarded and self._takes_flat(table):
            if table.rows.belong_to(<void *>self):
                self.quick.single, self.quick.count = &table.rows.single, self.parameter_count
                self.quick.sample_at = table.rows.single.walks + self.sample_in
        return 0

    # ------------------------------------------------------------------------------------------------------- raising

    def walk(self, Call call not None, tuple arguments not None):
        """Run what passes its guards, inside a call whose effects somebody else applies; results in order."""
        cdef spin_raw raw[FLAT_PARAMS_MAX + 1]
        cdef spin_raw last
        cdef Table table = self._table
        cdef bint timed = self._sampled()
        if timed or not self._takes_flat(table):
            return _walk(table, call, arguments, self.on_fault, timed)
        if len(arguments) != self.plan.parameter_count:
            raise UsageError(f"event {self.name}: found {len(arguments)} arguments, expected {self.plan.parameter_count}")
        for position, value in enumerate(arguments):
            _lower_scalar(self.plan, position, value, &raw[<int>position])
        results = []
        outer, room, cancelled = call.domain, call.journal.room, call.cancelled
        call.cancelled = False
        try:
            self._run(table, raw, call, results, &last)
        finally:
            call.domain, call.journal.room, call.cancelled = outer, room, cancelled
        return results

    @property
    def raise_(self):
        """``raise_(*arguments)``: raise the event in a call of its own, apply its effects, and return the folded result.

        For an event of one parameter it is a function that takes one argument, with any other number of them a TypeError (docs/decisions/0014-raise-of-one-argument.md).
        """
        return PyCFunction_NewEx(&_raise_one_method if self.parameter_count == 1 else &_raise_method, <PyObject *>self, NULL)

    cdef object _raise_lowered(self, spin_raw *raw):
        """Raise with lowered arguments, when nothing but a flat raise is asked for; the folded result as a Python value."""
        cdef bint ran
        if self.quick.single == NULL:
            return self._raise_boxed(self._table, raw)
        if spin_begin(&self.quick):
            ran = spin_raise_begun(&self.quick, raw)
        elif self._sampled():
            return self._raise_sampled(self._table, raw)
        else:
            ran = self._run_single(self._table.rows, raw, None)
        if not ran:
            return self.on_nothing()
        return None if self.result is None else self.result.lift(None, raw)

    cdef object _raise_boxed(self, Table table, spin_raw *raw):
        """Raise with lowered arguments; the folded result as a Python value."""
        cdef spin_raw last
        if self._sampled():
            return self._raise_sampled(table, raw)
        if self._fold is not None:
            return self._raise_folded(table, raw)
        if not self._run(table, raw, None, None, &last):
            return self.on_nothing()
        return None if self.plan.result is None else self.plan.result.lift(None, &last)

    cdef object _raise_folded(self, Table table, spin_raw *raw):
        """The same where somebody else's function makes one result of several: when it fails, the raise did not happen."""
        cdef spin_raw last
        cdef Call call = _new_call(self.name, None)
        results = []
        try:
            answer = self._fold(results) if self._run(table, raw, call, results, &last) else self.on_nothing()
        except BaseException:
            call.roll_back()
            raise
        call.commit()
        return answer

    cdef inline int raise_flat(self, spin_raw *raw) except -1:
        """Raise from Cython: `raw` holds the arguments and then the folded result. For flat events only."""
        if self.quick.single != NULL and spin_begin(&self.quick):
            if spin_raise_begun(&self.quick, raw):
                return 0
            return self._give(self.on_nothing(), raw)
        return self._raise_flat(raw)

    cdef int _raise_flat(self, spin_raw *raw) except -1:
        """The same, whatever is raised: a quarantine that begins in the middle of it has the default as its answer, too."""
        try:
            return self._raise_any_flat(raw)
        except DefaultDue:
            return self._give(self.on_nothing(), raw)

    cdef int _raise_any_flat(self, spin_raw *raw) except -1:
        """What `raise_flat` does for several handlers, for guards and folds, for a raise that is timed, and for a handler that has to be looked up."""
        cdef Table table = self._table
        cdef spin_raw last
        if self.quick.single != NULL:
            return self._give(self._raise_lowered(raw), raw)
        if not self._plain or not self._takes_flat(table):
            return self._give(self.raise_slowly(*self._box(raw)), raw)
        if self._fold is not None:
            return self._give(self._raise_boxed(table, raw), raw)
        if self._sampled():
            return self._give(self._raise_sampled(table, raw), raw)
        if self._run(table, raw, None, None, &last):
            raw[0] = last
            return 0
        return self._give(self.on_nothing(), raw)

    cdef int _give(self, object answer, spin_raw *raw) except -1:
        if self.plan.result is not None:
            self.plan.result.lower(None, answer, raw)
        return 0

    cdef inline bint _sampled(self) noexcept:
        if self.quick.single != NULL:
            if self.quick.single.walks + 1 < self.quick.sample_at:
                return False
            self.quick.sample_at = self.quick.single.walks + SAMPLE_EVERY
            return True
        self.sample_in -= 1
        if self.sample_in:
            return False
        self.sample_in = SAMPLE_EVERY
        return True

    cdef inline object _raise_sampled(self, Table table, spin_raw *raw):
        """Through the walk, with the time of each handler."""
        return self._raise_walked(table, self._box(raw), True)

    cdef bint _takes_walk(self) noexcept:
        """Whether a raise needs nothing but the walk: handlers of the host have their arguments checked before."""
        return self._plain and self._table is not None and not self._table.rows.hosted

    cdef object _raise_walked(self, Table table, tuple arguments, bint timed):
        """Raise through the walk, in a call of its own; the folded result."""
        cdef Call call = _new_call(self.name, None)
        self.raises.depth += 1
        try:
            results = _walk(table, call, arguments, self.on_fault, timed)
            if results:
                answer = results[len(results) - 1] if self._fold is None else self._fold(results)
            else:
                self.plan.check_arguments(arguments)
                answer = self.on_nothing()
        except BaseException:
            call.roll_back()
            raise
        finally:
            self.raises.end()
        call.commit()
        return answer

    cdef inline int bring_stub(self, _Rows rows) except -1:
        if self.stub is None or self.stub.store is not rows.store or self.stub.signature != rows.signature:
            self.stub = _Stub(rows.store, rows.signature)
        return self.stub.prepare(rows, len(rows.entries))

    cdef tuple _box(self, spin_raw *raw):
        return tuple([(<ScalarPlan>plan).lift(None, &raw[<int>position]) for position, plan in enumerate(self.plan.scalars)])

    # -------------------------------------------------------------------------------------------------------- flat raise

    cdef inline bint _takes_flat(self, Table table) except -1:
        """Whether the raw path may serve a raise of this table now."""
        cdef _Rows rows
        if table is None:
            return False
        rows = table.rows
        if table.count == 0 or not rows.flat or self._tier_max < 2 or (rows.signature is not self.signature and not self._has_type(rows)):
            return False
        if table.count == 1 and not rows.guarded:
            return True
        if rows.store.state.frame != NULL or rows.store.state.held or (rows.repeated and rows.logged):
            return False
        if rows.guarded:
            rows.bring_index()
            return _is_integer(self.plan, rows.index.parameter)
        return True

    cdef bint _has_type(self, _Rows rows) except -1:
        if rows.signature != self.signature:
            return False
        rows.signature = self.signature  # so that the next look compares two pointers
        return True

    cdef Py_ssize_t _run(self, Table table, spin_raw *raw, Call call, list results, spin_raw *last) except -1:
        """Run a flat table; how many results there were. They go to `results` unless it is None; the last also to `last`."""
        if table.count == 1 and not table.rows.guarded:
            return self._run_one(table.rows, raw, call, results, last)
        return _run_many(self, table, raw, call, results, last)

    cdef Py_ssize_t _run_one(self, _Rows rows, spin_raw *raw, Call call, list results, spin_raw *last) except -1:
        if not self._run_single(rows, raw, call):
            return 0
        last[0] = raw[0]
        if results is not None:
            results.append(None if self.plan.result is None else self.plan.result.lift(None, raw))
        return 1

    cdef Py_ssize_t _run_found(self, _Rows rows, uint32_t row, const spin_raw *given, Call call, list results, spin_raw *last) except -1:
        cdef spin_raw raw[RAW_MAX]
        memcpy(raw, given, max(1, self.parameter_count) * sizeof(spin_raw))
        if not self._run_row(rows, row, raw, call):
            return 0
        last[0] = raw[0]
        if results is not None:
            results.append(None if self.plan.result is None else self.plan.result.lift(None, raw))
        return 1

    cdef bint _run_single(self, _Rows rows, spin_raw *raw, Call call) except -1:
        """Run the only handler, whatever it takes to get there; false when it failed. Its result is in `raw`."""
        cdef spin_single *single = &rows.single
        single.walks += 1
        if single.version != single.state.version and not self._make_ready(rows, 0):
            return False
        return self._run_row(rows, 0, raw, call)

    cdef inline spin_error *_enter(self, spin_context *context, const spin_func *function, spin_raw *raw, spin_trap **trap, spin_state *state) noexcept:
        cdef spin_error *error
        if not self._long:
            return api.func_call_unchecked(context, function, raw, RAW_MAX, trap)
        give_lock(state)
        error = api.func_call_unchecked(context, function, raw, RAW_MAX, trap)
        take_lock(state)
        return error

    cdef bint _run_row(self, _Rows rows, uint32_t row, spin_raw *raw, Call call) except -1:
        """Run one handler, the only one there is or whose guards hold; as `_run_single`."""
        cdef spin_frame frame
        cdef spin_run run
        cdef Entry entry = <Entry>PyList_GET_ITEM(rows.entries, row)
        cdef Export export = <Export>entry.handler
        cdef Instance guest = export.guest
        cdef spin_state *state = &guest.store.state
        if guest.g.state or export.generation != state.generation or rows.slots[row].guest != &guest.g or not spin_may_enter(state):
            if not self._make_ready(rows, row):
                return False
            guest = export.guest
            state = &guest.store.state
        if not rows.flat or guest.g.state:
            return self._run_slowly(rows, row, raw, call)
        run.frame, run.guest, run.trap = &frame, &guest.g, NULL
        spin_ticker_touch()
        spin_push(state, &frame, rows.slots, &row, <void *>call if call is not None else NULL)
        frame.own.dispatcher = <void *>self
        frame.own.rows = <void *>rows
        frame.settled = row
        guest.g.state = SPIN_BUSY
        run.error = self._enter(guest.context, &export.function, raw, &run.trap, state)
        guest.g.state &= ~<uint32_t>SPIN_BUSY
        spin_pop(state, &frame)
        return spin_is_done(run, state) or self._end_one(entry, guest, &run, call, raw)

    cdef bint _run_slowly(self, _Rows rows, uint32_t row, spin_raw *raw, Call call) except -1:
        """Run one handler as tier 1 does, in the place of a flat raise that turned out to be none; whether it gave a result."""
        cdef _Walk walk = _Walk()
        cdef Entry entry = rows.entries[row]
        self._look()
        entry.counted -= 1  # it was counted as one of a flat raise, and is once more below
        walk.call = _new_call(self.name, None) if call is None else call
        walk.arguments, walk.on_fault, walk.results = self._box(raw), self.on_fault, []
        outer, room, cancelled = walk.call.domain, walk.call.journal.room, walk.call.cancelled
        try:
            walk.run(entry)
        except BaseException:
            if call is None:
                walk.call.roll_back()
            raise
        finally:
            walk.call.domain, walk.call.journal.room, walk.call.cancelled = outer, room, cancelled
        if call is None:
            walk.call.commit()
        if walk.results:
            self._give(walk.results[0], raw)
        return bool(walk.results)

    cdef bint _make_ready(self, _Rows rows, uint32_t row) except -1:
        """Look again, or refuse: then the handler has failed without having run. It has not ended yet for who asks meanwhile."""
        cdef Entry entry = rows.entries[row]
        cdef bint ran = True
        entry.counted -= 1
        try:
            rows.find_single(row)
            return True
        except SpinError as error:
            ran = not _is_raisers(entry, error)
            _note_fault(self.on_fault, entry, error, None, ())
            return False
        finally:
            entry.counted += ran

    cdef bint _end_one(self, Entry entry, Instance guest, const spin_run *run, Call call, spin_raw *raw) except -1:
        """What comes behind a call that failed, changed something, or that something waited for; false when it failed."""
        cdef bint good = run.error == NULL and run.trap == NULL
        cdef bint is_counted = run.frame.marked != run.frame.what.progress[0]  # beforehand, and not taken back by `_note_handler`
        if good and run.frame.call == NULL and call is None and run.frame.below == NULL and not guest.store.state.attention:
            _keep(guest)
            return True
        if not good and is_counted:
            entry.counted -= 1
            is_counted = False
        try:
            if good:
                self._note_touch(guest, run.frame, call)
            else:
                self._fault(entry, guest, run.frame, raw, run.error, run.trap)
        finally:
            if not is_counted:
                entry.counted += 1
            if run.frame.outer == NULL and guest.store.state.attention:
                guest.store.end_outermost()
            self._end_call(run.frame, call, good)
        return good

    cdef int _note_touch(self, Instance guest, spin_frame *frame, Call call) except -1:
        """A handler succeeded: what it changed waits for the end of the call that it is part of, or stays for good."""
        cdef Call within
        if not spin_is_changed(&guest.g):
            return 0
        within = call if call is not None else <Call>frame.call if frame.call != NULL else _call_within(frame.below)
        if within is None:
            _keep(guest)
            return 0
        return within.touches.note(guest, _idle_savepoint(guest))

    cdef int _take_back(self, Instance guest, spin_frame *frame) except -1:
        """Nothing of what its handler did is left. Effects that are dropped may raise an event again: it is not entered before it is as it was."""
        spin_new_version(&guest.store.state)  # the quick raise does not look at the instance
        guest.g.state |= SPIN_BUSY
        try:
            if frame.call != NULL and frame.marked == frame.what.progress[0]:
                (<Call>frame.call).go_back(frame.mark, frame.touch_mark)
            _recover(guest, _idle_savepoint(guest))
        finally:
            guest.g.state &= ~<uint32_t>SPIN_BUSY
        return 0

    cdef int _fault(self, Entry entry, Instance guest, spin_frame *frame, spin_raw *raw, spin_error *failed, spin_trap *trap) except -1:
        """A handler failed in a flat raise with these arguments: take back what it did, and tell. Why it failed is consumed."""
        cdef Trace trace = _trace_of(failed, trap)
        cdef uint64_t version
        cdef str reason = guest.plain_trap(trace) if self._skips and entry.tally is not None else None
        error = guest.failure(self.name, trace) if reason is None else None
        self._take_back(guest, frame)
        version = guest.store.state.version
        if reason is not None:
            if guest.store.state.version == version and not guest.g.state & ~<uint32_t>(SPIN_BUSY | SPIN_HELD):
                if entry.tally.note_trap(self.name, guest.name, reason, self._box(raw), trace):
                    entry.faults += 1
                    return 0
            error = guest.failure(self.name, trace)
        if entry.quantum_ticks and isinstance(error, DeadlineExceeded):
            entry.ended += 1
            if entry.domain is not None:
                entry.domain.restore()
            return 0
        return _note_fault(self.on_fault, entry, error, <Call>frame.call if frame.call != NULL else None, self._box(raw))

    cdef int _end_call(self, spin_frame *frame, Call call, bint apply) except -1:
        """Let go of the call that host functions used; one that was made here ends."""
        cdef Call used
        cdef Instance guest
        if frame.call == NULL:
            return 0
        used = <Call>frame.call
        frame.call = NULL
        for guest in used.joined or ():
            guest.call = None
        used.joined = None
        if call is None:
            Py_DECREF(used)
            if apply:
                used.commit()
            else:
                used.roll_back()
        return 0
