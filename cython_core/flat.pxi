# Flat raises of several handlers: guards on raw values, then the stub; and the scalars that cross from Python.
#
# The frame stays pushed from the first segment to the end, faults in between included: nothing else may use the stub and the
# list of positions meanwhile. A raise from within takes tier 1.

cdef enum:
    RAW_MAX = FLAT_PARAMS_MAX + 4    # SPIN_RAW_MAX


cdef struct FlatWalk:
    uint32_t *positions     # which rows run, in order; NULL: all
    uint32_t count          # how many
    uint32_t at             # the next one, in that order
    bint ended              # one of them ended the walk
    bint exact              # what ran is counted one by one, up to `counted`; until then all count as run beforehand
    uint32_t counted
    spin_frame frame


cdef inline uint32_t _row(const FlatWalk *walk, uint32_t number) noexcept:
    return number if walk.positions == NULL else walk.positions[number]


cdef Py_ssize_t _run_many(Dispatcher event, Table table, spin_raw *raw, Call call, list results, spin_raw *last) except -1:
    cdef FlatWalk walk
    cdef _Rows rows = table.rows
    walk.at = 0
    walk.ended = walk.exact = False
    walk.positions = NULL
    walk.count = table.count
    if rows.guarded:
        _find_passing(event, rows, table.count, raw, &walk)
        if walk.count == 0:
            return 0
        if walk.count == 1:
            return event._run_found(rows, walk.positions[0], raw, call, results, last)
    else:
        rows.single.walks += 1
    return _run_stub(event, rows, &walk, raw, call, results, last)


cdef int _find_passing(Dispatcher event, _Rows rows, uint32_t end, spin_raw *raw, FlatWalk *walk) except -1:
    """The rows whose guards hold: by the index, then guard by guard what the index did not decide."""
    cdef uint32_t number, kept = 0
    cdef Py_ssize_t parameter = rows.index.parameter
    cdef Entry entry
    walk.positions = rows.room_for_positions()
    walk.count = rows.index.candidates_raw(_index_key(event.plan, parameter, raw), _range_key(event.plan, parameter, raw), end, walk.positions)
    for number in range(walk.count):
        entry = <Entry>PyList_GET_ITEM(rows.entries, walk.positions[number])
        if entry.decided or _holds_all(entry, event, raw):
            walk.positions[kept] = walk.positions[number]
            kept += 1
            entry.counted += 1
    walk.count = kept
    return 0


cdef bint _holds_all(Entry entry, Dispatcher event, spin_raw *raw) except -1:
    cdef tuple boxed = event._box(raw)
    for guard in entry.guards:
        if not (<Guard>guard).holds(boxed):
            entry.guarded += 1
            return False
    return True


cdef Py_ssize_t _run_stub(Dispatcher event, _Rows rows, FlatWalk *walk, spin_raw *raw, Call call, list results, spin_raw *last) except -1:
    cdef Store store = rows.store
    cdef spin_state *state = &store.state
    cdef Py_ssize_t found = 0
    cdef bint good = False
    if not spin_may_enter(state):
        store.refuse_entry(event.name)
    _push(event, state, rows, call, walk)
    try:
        while walk.at < walk.count and not walk.ended:
            event.bring_stub(rows)
            if event.stub.ready and state.held == 0:
                found += _run_segment(event, rows, walk, raw, results, last)
            else:
                found += _run_rest(event, rows, walk, raw, results, last)
        good = True
    finally:
        spin_pop(state, &walk.frame)
        state.stub_end = NULL
        if walk.exact or walk.at < walk.count:
            _count_exactly(rows, walk, walk.at)
        if rows.logged:
            _settle_rows(event, rows, walk, call, good)
        if walk.frame.outer == NULL and state.attention:
            store.end_outermost()
        if walk.frame.call != NULL:
            event._end_call(&walk.frame, call, good)
    return found


cdef inline int _push(Dispatcher event, spin_state *state, _Rows rows, Call call, FlatWalk *walk) except -1:
    cdef spin_frame *frame = &walk.frame
    spin_ticker_touch()
    spin_push(state, frame, rows.slots, &_first_slot, <void *>call if call is not None else NULL)
    frame.own.dispatcher = <void *>event
    frame.own.rows = <void *>rows
    frame.own.walk = <void *>walk
    frame.settled = 0
    return 0


cdef Py_ssize_t _run_segment(Dispatcher event, _Rows rows, FlatWalk *walk, spin_raw *raw, list results, spin_raw *last) except -1:
    """Go through the stub until the end, a fault, or somebody stops it; how many results that gave."""
    cdef _Stub stub = event.stub
    cdef spin_raw given[RAW_MAX]
    cdef spin_trap *trap = NULL
    cdef spin_error *error
    cdef uint32_t begin = walk.at, stop = _next_stop(rows, walk), number
    cdef uint32_t *listed = <uint32_t *>(stub.base + SCRATCH_AT + <size_t>walk.count * RESULT_BYTES)
    cdef bint failed
    memcpy(&given[2], raw, event.plan.parameter_count * sizeof(spin_raw))
    given[1].u64 = SCRATCH_AT
    stub.progress()[0] = _row(walk, begin)
    walk.frame.own.progress = stub.progress()
    walk.frame.own.slots = rows.slots
    event_state(rows).stub_end = stub.end()
    if walk.positions == NULL:
        given[0].u64 = begin
        stub.end()[0] = stop
        error = event._enter(rows.store.context, &stub.walks[0 if results is not None else 1], given, &trap, event_state(rows))
    else:
        memcpy(listed, walk.positions + begin, (stop - begin) * sizeof(uint32_t))
        given[0].u64 = <uint64_t>(<uint8_t *>listed - stub.base)
        stub.end()[0] = <uint32_t>given[0].u64 + (stop - begin) * <uint32_t>sizeof(uint32_t)
        error = event._enter(rows.store.context, &stub.walks[2 if results is not None else 3], given, &trap, event_state(rows))
    failed = error != NULL or trap != NULL
    number = _reached(walk, stub.progress()[0])
    _take_results(event, stub, number - begin + (0 if failed else 1), results, last)
    walk.at = number + 1
    if failed:
        _flat_fault(event, rows, walk, number, raw, error, trap)
    else:
        _note_end(rows, walk, number)
    return number - begin + (0 if failed else 1)


cdef inline spin_state *event_state(_Rows rows) noexcept:
    return &rows.store.state


cdef inline uint32_t _next_stop(_Rows rows, const FlatWalk *walk) noexcept:
    """Up to where the walk may go without a look: behind the next entry that cancels."""
    cdef uint32_t number
    if rows.cancelling:
        for number in range(walk.at, walk.count):
            if (<Entry>PyList_GET_ITEM(rows.entries, _row(walk, number))).cancels:
                return number + 1
    return walk.count


cdef inline uint32_t _reached(const FlatWalk *walk, uint32_t row) noexcept:
    """Where in the order of the walk that row is."""
    cdef uint32_t number = walk.at
    if walk.positions == NULL:
        return row
    while walk.positions[number] != row:
        number += 1
    return number


cdef inline int _take_results(Dispatcher event, _Stub stub, uint32_t count, list results, spin_raw *last) except -1:
    cdef uint32_t number
    cdef spin_raw raw
    if count == 0:
        return 0
    if results is None:
        last.u64 = stub.results()[0]
        return 0
    for number in range(count):
        raw.u64 = stub.results()[number]
        results.append(None if event.plan.result is None else event.plan.result.lift(None, &raw))
        last[0] = raw
    return 0


cdef int _flat_fault(Dispatcher event, _Rows rows, FlatWalk *walk, uint32_t number, spin_raw *raw, spin_error *error, spin_trap *trap) except -1:
    """Whoever is told may ask how many ran: those before this one."""
    cdef uint32_t row = walk.frame.what.progress[0]
    cdef Entry entry = rows.entries[row]
    cdef Instance guest = <Instance>rows.slots[row].guest.owner
    _count_exactly(rows, walk, number)
    event._fault(entry, guest, &walk.frame, raw, error, trap)
    return 0


cdef int _note_end(_Rows rows, FlatWalk *walk, uint32_t number) except -1:
    """The stub came back by itself: at its end, or because somebody stopped it."""
    cdef Entry entry = <Entry>PyList_GET_ITEM(rows.entries, _row(walk, number))
    walk.ended = entry.cancels or (walk.frame.call != NULL and walk.frame.marked == _row(walk, number) and (<Call>walk.frame.call).cancelled)
    return 0


cdef int _settle_rows(Dispatcher event, _Rows rows, FlatWalk *walk, Call call, bint good) except -1:
    """What handlers of this walk changed waits for the end of the call that it is part of, or stays for good; a walk that failed takes it back."""
    cdef uint32_t number
    cdef spin_guest *guest
    for number in range(walk.count):
        guest = rows.slots[_row(walk, number)].guest
        if not spin_is_changed(guest) or guest.state & SPIN_HELD:
            continue
        if good:
            event._note_touch(<Instance>guest.owner, &walk.frame, call)
        else:
            _roll_back(<Instance>guest.owner, _idle_savepoint(<Instance>guest.owner))
    return 0


cdef int _count_exactly(_Rows rows, FlatWalk *walk, uint32_t number) except -1:
    """Count as run those before that place in the walk and no others, as the other tiers do: a handler counts when it has ended."""
    cdef uint32_t each
    if not walk.exact:
        walk.exact, walk.counted = True, number
        for each in range(number, walk.count):
            (<Entry>rows.entries[_row(walk, each)]).counted -= 1
    for each in range(walk.counted, number):
        (<Entry>rows.entries[_row(walk, each)]).counted += 1
    walk.counted = max(walk.counted, number)
    return 0


cdef Py_ssize_t _run_rest(Dispatcher event, _Rows rows, FlatWalk *walk, spin_raw *raw, list results, spin_raw *last) except -1:
    """One of the handlers cannot be entered: run what is left one after the other, as tier 1 does."""
    cdef _Walk slow = _Walk()
    cdef Py_ssize_t found
    cdef Call call = _call_of(&walk.frame)
    outer, room, cancelled = call.domain, call.journal.room, call.cancelled
    slow.call, slow.arguments, slow.on_fault, slow.results = call, event._box(raw), event.on_fault, []
    _count_exactly(rows, walk, walk.at)
    try:
        while walk.at < walk.count and not walk.ended:
            walk.at += 1
            walk.counted = walk.at  # `run` counts
            walk.ended = slow.run(rows.entries[_row(walk, walk.at - 1)])
    finally:
        call.domain, call.journal.room, call.cancelled = outer, room, cancelled
    found = len(slow.results)
    if results is not None:
        results.extend(slow.results)
    if found and event.plan.result is not None:
        event.plan.result.lower(None, slow.results[found - 1], last)
    return found


# ------------------------------------------------------------------------------------------- the call of a flat raise

cdef Call _call_of(spin_frame *frame):
    """The call that a frame runs in; made when it is first needed."""
    cdef Call call
    if frame.call != NULL:
        return <Call>frame.call
    call = Call((<Dispatcher>frame.what.dispatcher).name, None, _call_within(frame.below))
    Py_INCREF(call)
    frame.call = <void *>call
    return call


cdef int _join_call(spin_frame *frame, Instance guest) except -1:
    """Give a guest that calls out the call that it runs in."""
    cdef Call call = _call_of(frame)
    guest.call = call
    if frame.what.dispatcher == NULL:
        return 0
    if call.joined is None:
        call.joined = []
    call.joined.append(guest)
    return _note_handler(frame, frame.what.progress[0])


cdef int _note_handler(spin_frame *frame, uint32_t progress) except -1:
    """The first host call of a handler: its effects begin here."""
    cdef Call call
    cdef Entry entry
    if frame.call == NULL or frame.marked == progress:
        return 0
    call = <Call>frame.call
    entry = <Entry>(<_Rows>frame.what.rows).entries[progress]
    if frame.what.walk == NULL:
        entry.counted -= 1  # until it has ended: whoever is called may ask
    else:
        _count_exactly(<_Rows>frame.what.rows, <FlatWalk *>frame.what.walk, _reached(<FlatWalk *>frame.what.walk, progress))
    if (<_Rows>frame.what.rows).logged:
        _hold_rows(frame, <_Rows>frame.what.rows, call, progress)
    frame.marked = progress
    frame.mark, frame.touch_mark = len(call.journal.effects), len(call.touches.guests)
    call.domain, call.journal.room, call.cancelled = entry.domain, entry.effects_max, False
    return 0


cdef int _hold_rows(spin_frame *frame, _Rows rows, Call call, uint32_t progress) except -1:
    """What ran before in this walk is told to its call before a handler calls out: it may be entered once more from there."""
    cdef spin_guest *guest
    while frame.settled < progress:
        guest = rows.slots[frame.settled].guest
        frame.settled += 1
        if spin_is_changed(guest) and not guest.state & SPIN_HELD:
            call.touches.note(<Instance>guest.owner, _idle_savepoint(<Instance>guest.owner))
    return 0


# ---------------------------------------------------------------------------------------------------------- raw scalars

cdef inline bint _is_integer(FunctionPlan plan, Py_ssize_t position) noexcept:
    return 0 <= position < plan.parameter_count and (<ScalarPlan>PyTuple_GET_ITEM(plan.scalars, position)).kind <= U64


cdef inline int64_t _index_key(FunctionPlan plan, Py_ssize_t position, const spin_raw *raw) noexcept:
    """The value of an integer parameter as the index knows it: the bits that an equal Python integer has below 2**64."""
    cdef Scalar kind = (<ScalarPlan>PyTuple_GET_ITEM(plan.scalars, position)).kind
    if kind == U64 or kind == S64:
        return raw[position].i64
    if kind == U8 or kind == U16 or kind == U32:
        return raw[position].u32
    return raw[position].i32


cdef inline int64_t _range_key(FunctionPlan plan, Py_ssize_t position, const spin_raw *raw) noexcept:
    """The same for ranges, in signed order: a value past the signed ones counts as the highest."""
    cdef int64_t key = _index_key(plan, position, raw)
    if key < 0 and (<ScalarPlan>PyTuple_GET_ITEM(plan.scalars, position)).kind == U64:
        return INT64_MAX
    return key


cdef inline int _lower_scalar(FunctionPlan plan, Py_ssize_t position, object value, spin_raw *raw) except -1:
    (<ScalarPlan>PyTuple_GET_ITEM(plan.scalars, position)).lower(None, value, raw)
    return 0
