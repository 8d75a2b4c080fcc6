# Function bodies rewritten so that what they change can be taken back (docs/design/transactions.md).
#
# First a survey: what each function does, and the module as a whole. Python decides by it (spinrt/sandbox/instrument.py)
# what is added to the module and says so in a plan. Then each body is copied, with instructions put in; one that needs
# none stays byte for byte.

# What is done to an instruction. Python numbers the actions by this order.
INSTRUMENT_ACTIONS = (
    "copy", "branch", "open", "loop", "end", "return", "call", "call-indirect", "tail-call", "tail-call-indirect", "store",
    "global-get", "global-set", "bulk", "memory-init", "grow", "drop-data", "drop-element", "table-set", "table-fill",
    "table-copy", "table-init", "table-grow",
)

cdef enum:
    DO_COPY, DO_BRANCH, DO_OPEN, DO_LOOP, DO_END, DO_RETURN, DO_CALL, DO_CALL_INDIRECT, DO_TAIL_CALL, DO_TAIL_CALL_INDIRECT, DO_STORE
    DO_GLOBAL_GET, DO_GLOBAL_SET, DO_BULK, DO_MEMORY_INIT, DO_GROW, DO_DROP_DATA, DO_DROP_ELEMENT, DO_TABLE_SET, DO_TABLE_FILL
    DO_TABLE_COPY, DO_TABLE_INIT, DO_TABLE_GROW, ACTION_COUNT

cdef enum:
    # What is known of a function.
    CHANGED = 1             # has what may have to be rewritten
    RECORDS = 2             # writes records
    RECORDS_IN_LOOP = 4
    LEAVES = 8              # calls what is not known: an import, or through a table
    NOISY = 16              # records may be written while it runs

cdef enum:
    LOCALS_MAX = 50_000     # the engine's
    BODY_BYTES_MAX = 7_654_321
    IN_LOOP = 0x80000000

cdef struct spin_summary:
    uint16_t flags
    uint16_t needs          # locals, a bit each
    uint16_t reads          # globals, a bit each; the last bit stands for all from there on
    int32_t callers         # the last edge that leads here; -1 none

# A call of a function by another; or a `global.set` in a function (``target`` is the global, with IN_LOOP).
cdef struct spin_edge:
    uint32_t source
    uint32_t target
    int32_t next


@cython.final
cdef class BodyRewriter:
    """The function bodies of a module.

    Args:
        code: The module.
        name: What to call it in errors.
        opcodes: 768 entries of four bytes: shape (`INSTRUCTION_SHAPES`), action (`INSTRUMENT_ACTIONS`), of a store log2 of its width,
            and which local takes its value (`INSTRUMENT_VALUES`); opcodes of one byte, then behind 0xFC, then behind 0xFD.
        types: 256 bytes: 1 where the byte is a type of numbers or vectors, 2 of references.
        bodies: i64 start and end of each body in ``code``.
        counts: (imported functions, tables, globals, data segments, element segments).
        refusal: Says which proposal an unknown opcode belongs to.

    Attributes:
        global_sets: How often each global is set.
        first: By action, (function, offset of the instruction) of the first that was met; only for what changes state.
        dropped_data, dropped_elements, written_tables: Indices.

    Raises:
        ModuleError: Code is malformed, or names what is not there.
    """

    cdef bytes code
    cdef str name
    cdef bytes opcodes
    cdef bytes types
    cdef bytes bodies
    cdef object refusal
    cdef int64_t imported, table_count, global_count, data_count, element_count, body_count
    cdef spin_summary *summaries
    cdef spin_growing calls     # spin_edge each
    cdef spin_growing sets      # the same
    cdef spin_growing blocks    # of the body that is read: 1 for each open loop, 0 for other blocks
    cdef int64_t loops
    cdef spin_plan plan
    cdef spin_emit emit
    cdef tuple held             # the bytes that the plan points into
    cdef const int64_t *signatures
    cdef uint64_t seen          # actions, a bit each
    cdef readonly list global_sets
    cdef readonly dict first
    cdef readonly set dropped_data
    cdef readonly set dropped_elements
    cdef readonly set written_tables

    def __cinit__(
        self, bytes code not None, str name not None, bytes opcodes not None, bytes types not None,
        bytes bodies not None, tuple counts not None, refusal
    ):
        if len(opcodes) != 3 * OPCODE_PAGE * sizeof(spin_opcode) or len(types) != 256:
            raise InternalError(f"table of opcodes: found {len(opcodes)} and {len(types)} bytes, expected 3072 and 256")
        self.code, self.name, self.opcodes, self.types = code, name, opcodes, types
        self.bodies, self.refusal = bodies, refusal
        self.imported, self.table_count, self.global_count, self.data_count, self.element_count = counts
        self.body_count = len(bodies) // 16
        self.global_sets = [0] * self.global_count
        self.first, self.dropped_data, self.dropped_elements, self.written_tables = {}, set(), set(), set()
        self.summaries = <spin_summary *>calloc(self.body_count + 1, sizeof(spin_summary))
        if self.summaries == NULL:
            raise MemoryError
        cdef int64_t place
        for place in range(self.body_count):
            self.summaries[place].callers = -1
        for place in range(self.body_count):
            self._survey(place)

    def __dealloc__(self):
        free(self.summaries)
        free(self.calls.data)
        free(self.sets.data)
        free(self.blocks.data)
        free(self.emit.out.data)

    def set_plan(
        self, *, uint32_t undo, uint32_t dead_below, int64_t moved, tuple helpers not None, bytes globals_ not None,
        bytes tables not None, bytes data not None, bytes elements not None, bytes signatures not None
    ):
        """Say what the sequences refer to; before `rewrite` and `original`.

        Args:
            undo: Index of the log's memory.
            dead_below: Stores that end at or below this address are not recorded.
            moved: The global that lives in the log's memory; -1 none.
            helpers: Functions that count down, keep bytes, note growth, and set a flag; -1 where there is none.
            globals_: For each global two i64: its place in `INSTRUMENT_GLOBALS`, and a helper.
            tables: For each table three i64: its helper, an empty element segment, and the local for its references.
            data, elements: For each segment a byte: whether it may be dropped.
            signatures: For each body two i64: number of parameters, and the type of a block with the function's results.
        """
        found = (len(globals_), len(tables), len(data), len(elements), len(signatures))
        needed = (16 * self.global_count, 24 * self.table_count, self.data_count, self.element_count, 16 * self.body_count)
        if found != needed:
            raise InternalError(f"plan of module {self.name}: found tables of {found} bytes, expected {needed}")
        self.held = (globals_, tables, data, elements, signatures)
        cdef spin_plan *plan = &self.plan
        plan.undo, plan.dead_below, plan.moved = undo, dead_below, moved
        plan.tick, plan.save_bytes, plan.note_growth, plan.drop = helpers
        plan.globals = <const int64_t *>PyBytes_AS_STRING(globals_)
        plan.tables = <const int64_t *>PyBytes_AS_STRING(tables)
        plan.data = <const uint8_t *>PyBytes_AS_STRING(data)
        plan.elements = <const uint8_t *>PyBytes_AS_STRING(elements)
        plan.data_count, plan.element_count = self.data_count, self.element_count
        self.signatures = <const int64_t *>PyBytes_AS_STRING(signatures)
        self.emit.plan = plan
        self._note_sets(moved)
        self._spread()

    def rewrite(self):
        """Return all bodies, each behind its length, as they come in the code section."""
        cdef int64_t place
        cdef spin_growing *out = &self.emit.out
        cdef spin_growing all
        all.data, all.size, all.room = NULL, 0, 0
        try:
            _reserve(&all, len(self.code))
            for place in range(self.body_count):
                self._write_body(place, -1)
                _reserve(&all, out.size + 8)
                _append_size(&all, out.size)
                memcpy(all.data + all.size, out.data, out.size)
                all.size += out.size
            return PyBytes_FromStringAndSize(<char *>all.data, all.size)
        finally:
            free(all.data)

    def original(self, int64_t place, int64_t offset):
        """Return where an instruction came from.

        Args:
            place: Of the body.
            offset: In the rewritten body, in bytes.

        Returns:
            Offset in the original module of the instruction that became what is there.
        """
        if not 0 <= place < self.body_count:
            raise UsageError(f"module {self.name}: found body {place}, expected one of {self.body_count}")
        return self._write_body(place, max(offset, 0))

    # The survey.

    cdef int _open(self, int64_t place, spin_walk *walk) except -1:
        """Go to the beginning of a body."""
        cdef const int64_t *bounds = <const int64_t *>PyBytes_AS_STRING(self.bodies) + 2 * place
        cdef const uint8_t *code = <const uint8_t *>PyBytes_AS_STRING(self.code)
        if not 0 <= bounds[0] <= bounds[1] <= PyBytes_GET_SIZE(self.code):
            raise InternalError(f"module {self.name}: body {place} is outside of the code")
        walk.at = walk.start = code + bounds[0]
        walk.end = code + bounds[1]
        walk.table = <const spin_opcode *>PyBytes_AS_STRING(self.opcodes)
        walk.types = <const uint8_t *>PyBytes_AS_STRING(self.types)
        self.blocks.size = 0
        self.loops = 0
        return 0

    cdef int _fail(self, spin_walk *walk, int64_t place) except -1:
        """Raise what is wrong with the code."""
        found, expected = _DAMAGES[walk.damage]
        if walk.damage == DAMAGE_OPCODE:
            found = self._unknown(walk)
        at = walk.damaged - <const uint8_t *>PyBytes_AS_STRING(self.code)
        raise ModuleError(
            f"module {self.name}: offset {at:#x}: found {found}, expected {expected} (in function {self.imported + place})",
            hint="spinrt takes core modules of WebAssembly 2.0 with one memory; build the module again",
        )

    cdef str _unknown(self, spin_walk *walk):
        cdef int number = walk.start[0]
        if number == PREFIX_MISC or number == PREFIX_SIMD:
            walk.at = walk.start + 1
            _read_u32(walk, &walk.first)
            return f"{self.refusal(number << 8 | walk.first)} (opcode {number:#04x} {walk.first:#x})"
        return f"{self.refusal(number)} (opcode {number:#04x})"

    cdef int _survey(self, int64_t place) except -1:
        cdef spin_walk walk
        cdef spin_locals declared
        self._open(place, &walk)
        if _read_locals(&walk, &declared) < 0:
            self._fail(&walk, place)
        while True:
            if _read_instruction(&walk) < 0:
                self._fail(&walk, place)
            if walk.opcode.action == DO_COPY:
                continue
            if walk.opcode.action <= DO_END:
                if self._nest(&walk):
                    return 0
                if walk.damage:
                    self._fail(&walk, place)
            elif self._look(place, &walk) < 0:
                self._fail(&walk, place)

    cdef bint _nest(self, spin_walk *walk) except *:
        """Follow blocks; true at the end of the body. An end too early is noted as damage."""
        walk.damage = DAMAGE_NONE
        if walk.opcode.action == DO_BRANCH:
            return False
        if walk.opcode.action != DO_END:
            _reserve(&self.blocks, 1)
            self.blocks.data[self.blocks.size] = walk.opcode.action == DO_LOOP
            self.loops += walk.opcode.action == DO_LOOP
            self.blocks.size += 1
            return False
        if self.blocks.size:
            self.blocks.size -= 1
            self.loops -= self.blocks.data[self.blocks.size]
            return False
        if walk.at != walk.end:
            _damage(walk, DAMAGE_REST, walk.start)
            return False
        return True

    cdef int _look(self, int64_t place, spin_walk *walk) except? -1:
        """Note what an instruction does that is not copied as it is; -1 for an index of what is not there."""
        cdef uint8_t action = walk.opcode.action
        cdef spin_summary *function = &self.summaries[place]
        if action == DO_RETURN:
            return 0
        if action <= DO_TAIL_CALL_INDIRECT:
            return self._look_call(place, walk)
        function.flags |= CHANGED
        if action <= DO_GLOBAL_SET:
            if action == DO_STORE:
                return self._look_change(place, walk, 1 << LOCAL_ADDRESS | 1 << walk.opcode.value)
            return self._look_global(place, walk)
        return self._look_rare(place, walk)

    cdef int _look_call(self, int64_t place, spin_walk *walk) except? -1:
        cdef int64_t target = walk.first - self.imported
        if walk.opcode.action == DO_CALL_INDIRECT or walk.opcode.action == DO_TAIL_CALL_INDIRECT or target < 0:
            self.summaries[place].flags |= LEAVES
            return 0
        if target >= self.body_count:
            return _damage(walk, DAMAGE_INDEX, walk.start)
        cdef spin_edge edge
        edge.source, edge.target, edge.next = place, target, self.summaries[target].callers
        self.summaries[target].callers = <int32_t>self._append_edge(&self.calls, edge)
        return 0

    cdef int64_t _append_edge(self, spin_growing *to, spin_edge edge) except -1:
        cdef int64_t index = to.size // sizeof(spin_edge)
        _reserve(to, sizeof(spin_edge))
        (<spin_edge *>(to.data + to.size))[0] = edge
        to.size += sizeof(spin_edge)
        return index

    cdef int _look_change(self, int64_t place, spin_walk *walk, uint16_t needs) except? -1:
        """An instruction for which a record is written."""
        cdef spin_summary *function = &self.summaries[place]
        function.needs |= needs
        function.flags |= RECORDS | (RECORDS_IN_LOOP if self.loops else 0)
        if not (self.seen >> walk.opcode.action) & 1:
            self.seen |= 1 << walk.opcode.action
            offset = walk.start - <const uint8_t *>PyBytes_AS_STRING(self.code)
            self.first[INSTRUMENT_ACTIONS[walk.opcode.action]] = (self.imported + place, offset)
        return 0

    cdef int _look_global(self, int64_t place, spin_walk *walk) except? -1:
        cdef spin_edge edge
        if walk.first >= <uint64_t>self.global_count:
            return _damage(walk, DAMAGE_INDEX, walk.start)
        if walk.opcode.action == DO_GLOBAL_GET:
            self.summaries[place].reads |= 1 << min(walk.first, <uint64_t>15)
            return 0
        self.global_sets[walk.first] += 1
        self.summaries[place].needs |= 1 << LOCAL_I32
        edge.source, edge.next = place, 0
        edge.target = <uint32_t>walk.first | (IN_LOOP if self.loops else 0)
        self._append_edge(&self.sets, edge)
        return 0

    cdef int _look_rare(self, int64_t place, spin_walk *walk) except? -1:
        cdef uint8_t action = walk.opcode.action
        cdef uint16_t needs = 1 << LOCAL_ADDRESS | 1 << LOCAL_I32 | 1 << LOCAL_COUNT
        if action == DO_MEMORY_INIT and walk.first >= <uint64_t>self.data_count:
            return _damage(walk, DAMAGE_INDEX, walk.start)
        if action == DO_DROP_DATA or action == DO_DROP_ELEMENT:
            if walk.first >= <uint64_t>(self.data_count if action == DO_DROP_DATA else self.element_count):
                return _damage(walk, DAMAGE_INDEX, walk.start)
            (self.dropped_data if action == DO_DROP_DATA else self.dropped_elements).add(walk.first)
            needs = 0
        if action == DO_GROW:
            needs = 0
        if action >= DO_TABLE_SET and self._look_table(walk) < 0:
            return -1
        if action == DO_TABLE_SET or action == DO_TABLE_FILL:   # either type of reference: which one is Python's to know
            needs |= 1 << LOCAL_FUNCTION | 1 << LOCAL_EXTERN
        return self._look_change(place, walk, needs)

    cdef int _look_table(self, spin_walk *walk) except? -1:
        cdef uint64_t table = walk.second if walk.opcode.action == DO_TABLE_INIT else walk.first
        cdef bint known = walk.opcode.action != DO_TABLE_INIT or walk.first < <uint64_t>self.element_count
        if table >= <uint64_t>self.table_count or not known:
            return _damage(walk, DAMAGE_INDEX, walk.start)
        self.written_tables.add(table)
        return 0

    cdef void _note_sets(self, int64_t moved) noexcept:
        """Setting a global writes a record, but for the moved one."""
        cdef spin_edge *edges = <spin_edge *>self.sets.data
        cdef size_t index
        for index in range(self.sets.size // sizeof(spin_edge)):
            if <int64_t>(edges[index].target & ~<uint32_t>IN_LOOP) != moved:
                self.summaries[edges[index].source].flags |= RECORDS | (RECORDS_IN_LOOP if edges[index].target & IN_LOOP else 0)

    cdef int _spread(self) except -1:
        """Find the functions that may write records while they run: themselves, or through those they call."""
        cdef uint32_t *waiting = <uint32_t *>malloc((self.body_count + 1) * sizeof(uint32_t))
        cdef int64_t count = 0, place
        cdef spin_edge *edge
        cdef int32_t index
        if waiting == NULL:
            raise MemoryError
        for place in range(self.body_count):
            if self.summaries[place].flags & (RECORDS | LEAVES):
                self.summaries[place].flags |= NOISY
                waiting[count] = place
                count += 1
        while count:
            count -= 1
            index = self.summaries[waiting[count]].callers
            while index >= 0:
                edge = <spin_edge *>self.calls.data + index
                if not self.summaries[edge.source].flags & NOISY:
                    self.summaries[edge.source].flags |= NOISY
                    waiting[count] = edge.source
                    count += 1
                index = edge.next
        free(waiting)
        return 0

    # Writing.

    cdef int64_t _write_body(self, int64_t place, int64_t mark) except? -1:
        """Write a body to ``emit.out``; the offset in the module of the instruction whose part is at ``mark`` in it."""
        cdef const uint8_t *code = <const uint8_t *>PyBytes_AS_STRING(self.code)
        cdef spin_walk walk
        cdef spin_locals declared
        cdef spin_growing *out = &self.emit.out
        cdef const uint8_t *begin
        cdef int64_t found
        self._open(place, &walk)
        begin, out.size = walk.at, 0
        if self.summaries[place].flags & CHANGED:
            if _read_locals(&walk, &declared) < 0:
                self._fail(&walk, place)
            self._begin_body(place, &declared, walk.at)
            found = self._write_code(place, &walk, mark)
            if found >= 0:
                self._check_size(place, &walk, &declared)
                return found
        out.size = 0
        _reserve(out, walk.end - begin)
        _put_bytes(&self.emit, begin, walk.end)
        return min(begin + mark, walk.end) - code

    cdef int _begin_body(self, int64_t place, spin_locals *declared, const uint8_t *end) except -1:
        """Write the locals, those that are added behind the function's own, and what reads head and stamp."""
        cdef spin_emit *to = &self.emit
        cdef uint16_t flags = self.summaries[place].flags, needs = self.summaries[place].needs
        cdef uint32_t next = <uint32_t>(self.signatures[2 * place] + declared.total)
        cdef int kind
        to.cached = to.has_head = flags & RECORDS_IN_LOOP
        to.written = 0
        # A function without a frame of its own seldom stores into the stack, and then the question costs more than a record.
        to.dead_below = 0
        if self.plan.moved >= 0 and self.summaries[place].reads >> min(self.plan.moved, 15) & 1:
            to.dead_below = self.plan.dead_below
        if flags & RECORDS:
            needs |= 1 << LOCAL_HEAD
        _reserve(&to.out, SEQUENCE_BYTES_MAX + (end - declared.start))
        _put_unsigned(to, declared.groups + _bits(needs))
        _put_bytes(to, declared.start, end)
        for kind in range(LOCAL_KINDS):
            to.locals[kind] = next
            if needs >> kind & 1:
                _put_two(to, 1, LOCAL_TYPES[kind])
                next += 1
        if to.cached:
            _reload(to)
            _put(to, OP_BLOCK)
            _put_signed(to, self.signatures[2 * place + 1])
        return 0

    cdef int64_t _write_code(self, int64_t place, spin_walk *walk, int64_t mark) except? -1:
        """Copy the code with what is put in; -1 if nothing is."""
        cdef const uint8_t *copied = walk.at    # up to here it is written
        cdef spin_emit *to = &self.emit
        cdef bint changed = to.cached
        cdef const uint8_t *found = walk.at
        while True:
            if _read_instruction(walk) < 0:
                self._fail(walk, place)
            if <int64_t>to.out.size + (walk.start - copied) <= mark:
                found = walk.start
            if walk.opcode.action == DO_COPY:
                continue
            if walk.opcode.action <= DO_TAIL_CALL_INDIRECT and (to.written or to.has_head and not to.cached):
                copied = self._copy_up_to(walk.start, copied)
                _settle_head(to)
            if walk.opcode.action <= DO_END:
                if self._nest(walk):
                    break
            elif not self._is_kept(walk):
                changed = True
                self._copy_up_to(walk.start, copied)
                self._write_changed(walk)
                copied = walk.at
        self._copy_up_to(walk.at, copied)
        if to.cached:
            _flush(to)
            _put(to, OP_END)
        return found - <const uint8_t *>PyBytes_AS_STRING(self.code) if changed else -1

    cdef const uint8_t *_copy_up_to(self, const uint8_t *end, const uint8_t *copied) except NULL:
        """Write code as it is, and make room for a sequence."""
        _reserve(&self.emit.out, SEQUENCE_BYTES_MAX + (end - copied))
        _put_bytes(&self.emit, copied, end)
        return end

    cdef bint _is_kept(self, spin_walk *walk) noexcept:
        """Whether an instruction stays as it is."""
        cdef uint8_t action = walk.opcode.action
        cdef int64_t target = walk.first - self.imported
        if action == DO_CALL:
            return not self.emit.cached or (target >= 0 and not self.summaries[target].flags & NOISY)
        if action < DO_STORE:
            return not self.emit.cached
        if action == DO_GLOBAL_GET:
            return self.plan.globals[2 * walk.first] != GLOBAL_MOVED
        return False

    cdef void _write_changed(self, spin_walk *walk) noexcept:
        cdef spin_emit *to = &self.emit
        cdef uint8_t action = walk.opcode.action
        if action == DO_STORE:
            _emit_store(to, walk)
        elif action == DO_GLOBAL_GET:
            _emit_global_get(to, walk)
        elif action == DO_GLOBAL_SET:
            _emit_global_set(to, walk)
        elif action == DO_RETURN:   # out of the block around the body, behind which the head is written
            _put(to, OP_BR)
            _put_unsigned(to, self.blocks.size)
        elif action <= DO_TAIL_CALL_INDIRECT:
            _flush(to)
            _put_bytes(to, walk.start, walk.at)
            if action == DO_CALL or action == DO_CALL_INDIRECT:
                _reload(to)
        else:
            self._write_rare(walk)

    cdef void _write_rare(self, spin_walk *walk) noexcept:
        cdef spin_emit *to = &self.emit
        cdef uint8_t action = walk.opcode.action
        if action == DO_BULK:
            _emit_bulk(to, walk)
        elif action == DO_MEMORY_INIT:
            _emit_memory_init(to, walk)
        elif action == DO_GROW:
            _emit_grow(to, walk)
        elif action == DO_DROP_DATA:
            _emit_drop(to, walk.first)
        elif action == DO_DROP_ELEMENT:
            _emit_drop(to, self.plan.data_count + walk.first)
        elif action == DO_TABLE_SET:
            _emit_table_set(to, walk)
        elif action == DO_TABLE_FILL:
            _emit_table_range(to, walk, walk.first, True)
        elif action == DO_TABLE_COPY:
            _emit_table_range(to, walk, walk.first, False)
        elif action == DO_TABLE_INIT:
            _emit_table_init(to, walk)

    cdef int _check_size(self, int64_t place, spin_walk *walk, spin_locals *declared) except -1:
        """What the engine would say of the function's size, in our words."""
        cdef uint64_t locals = self.signatures[2 * place] + declared.total + LOCAL_KINDS
        if locals > LOCALS_MAX:
            _damage(walk, DAMAGE_LOCALS, declared.start)
        elif self.emit.out.size > BODY_BYTES_MAX:
            _damage(walk, DAMAGE_SIZE, declared.start)
        else:
            return 0
        self._fail(walk, place)


cdef inline int _bits(uint16_t value) noexcept nogil:
    cdef int count = 0
    while value:
        value &= value - 1
        count += 1
    return count


cdef inline void _append_size(spin_growing *to, size_t size) noexcept nogil:
    """Write an unsigned LEB128; there is room."""
    while size >= 0x80:
        to.data[to.size] = size & 0x7F | 0x80
        to.size += 1
        size >>= 7
    to.data[to.size] = <uint8_t>size
    to.size += 1
