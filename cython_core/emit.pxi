# The instructions that go before one that changes state (docs/design/transactions.md). `instrument.pxi` decides what goes where.
#
# A function keeps the head of the log in a local from its beginning to its end ("cached"), or from the first record between
# two branches or calls to the next of these. Records that are written on every way there lie at fixed places behind the
# head, which is moved once for all of them. What a sequence needs in locals is declared behind the function's own;
# nothing of the guest's stack is touched.

cdef enum:
    # Locals that may be added, in this order: an address, a count, the head, and a value of each type.
    LOCAL_ADDRESS, LOCAL_COUNT, LOCAL_HEAD, LOCAL_I32, LOCAL_I64, LOCAL_F32, LOCAL_F64, LOCAL_V128
    LOCAL_FUNCTION, LOCAL_EXTERN, LOCAL_KINDS

cdef uint8_t[LOCAL_KINDS] LOCAL_TYPES = [0x7F, 0x7F, 0x7F, 0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F]

# Which local takes a value of a type.
INSTRUMENT_VALUES = {
    "i32": LOCAL_I32, "i64": LOCAL_I64, "f32": LOCAL_F32, "f64": LOCAL_F64, "v128": LOCAL_V128,
    "funcref": LOCAL_FUNCTION, "externref": LOCAL_EXTERN,
}

# What `set_plan` is told of a global.
INSTRUMENT_GLOBALS = ("fixed", "moved", "i32", "i64", "f32", "f64", "helper")

cdef enum:
    GLOBAL_FIXED, GLOBAL_MOVED, GLOBAL_I32, GLOBAL_I64, GLOBAL_F32, GLOBAL_F64, GLOBAL_HELPER

cdef enum:
    # Opcodes that are written.
    OP_BLOCK = 0x02, OP_IF = 0x04, OP_ELSE = 0x05, OP_END = 0x0B, OP_BR = 0x0C, OP_CALL = 0x10, OP_LOCAL_GET = 0x20, OP_LOCAL_SET = 0x21
    OP_LOCAL_TEE = 0x22, OP_GLOBAL_GET = 0x23, OP_I32_LOAD = 0x28, OP_I64_LOAD = 0x29, OP_I32_LOAD8_U = 0x2D, OP_I32_LOAD16_U = 0x2F
    OP_I32_STORE = 0x36, OP_I64_STORE = 0x37, OP_F32_STORE = 0x38, OP_F64_STORE = 0x39, OP_I32_STORE8 = 0x3A, OP_I32_STORE16 = 0x3B
    OP_I32_CONST = 0x41, OP_I64_CONST = 0x42, OP_I32_GT_U = 0x4B, OP_I32_ADD = 0x6A, OP_I64_ADD = 0x7C, OP_I64_EXTEND_I32_U = 0xAD
    OP_MEMORY_INIT = 8, OP_TABLE_INIT = 12
    # Places in `spinrt:undo`.
    AT_HEAD = 0, AT_MOVED = 4, AT_STAMP = 8
    VALUE_OFFSET = 8            # in a record
    WIDTH_VECTOR = 4            # log2 of the bytes of a vector
    KIND_SHIFT = 32
    MEMORY_INDEXED = 0x40       # of an alignment: the index of a memory follows

# The bytes that were there are read and recorded at the width that is written, by log2 of it.
cdef uint8_t[4] OLD_LOADS = [OP_I32_LOAD8_U, OP_I32_LOAD16_U, OP_I32_LOAD, OP_I64_LOAD]
cdef uint8_t[4] OLD_STORES = [OP_I32_STORE8, OP_I32_STORE16, OP_I32_STORE, OP_I64_STORE]

# More than any sequence takes.
cdef size_t SEQUENCE_BYTES_MAX = 1024

cdef struct spin_growing:
    uint8_t *data
    size_t size
    size_t room

# What a module's sequences refer to. Indices of functions are -1 where there is none.
cdef struct spin_plan:
    uint32_t undo               # index of the log's memory
    uint32_t dead_below
    int64_t moved
    int64_t tick
    int64_t save_bytes
    int64_t note_growth
    int64_t drop
    const int64_t *globals      # what it is, then its helper
    const int64_t *tables       # helper, index of an empty element segment, and the local for a reference
    const uint8_t *data         # 1 for each data segment that may be dropped
    uint64_t data_count
    const uint8_t *elements
    uint64_t element_count

# One function being written.
cdef struct spin_emit:
    const spin_plan *plan
    spin_growing out
    uint32_t[LOCAL_KINDS] locals
    uint32_t dead_below         # stores that end at or below this are not recorded
    bint cached
    bint has_head               # the local has the head, but for `written`
    uint32_t written            # bytes of records behind it


cdef int _reserve(spin_growing *to, size_t more) except -1:
    cdef size_t room = to.room
    cdef void *moved
    if to.size + more <= room:
        return 0
    room = 2 * (to.size + more)
    moved = realloc(to.data, room)
    if moved == NULL:
        raise MemoryError
    to.data = <uint8_t *>moved
    to.room = room
    return 0


cdef inline void _put(spin_emit *to, uint8_t byte) noexcept nogil:
    to.out.data[to.out.size] = byte
    to.out.size += 1


cdef inline void _put_two(spin_emit *to, uint8_t first, uint8_t second) noexcept nogil:
    _put(to, first)
    _put(to, second)


cdef void _put_unsigned(spin_emit *to, uint64_t value) noexcept nogil:
    while value >= 0x80:
        _put(to, value & 0x7F | 0x80)
        value >>= 7
    _put(to, <uint8_t>value)


cdef void _put_signed(spin_emit *to, int64_t value) noexcept nogil:
    while not -64 <= value < 64:
        _put(to, value & 0x7F | 0x80)
        value >>= 7
    _put(to, value & 0x7F)


cdef inline void _put_bytes(spin_emit *to, const uint8_t *start, const uint8_t *end) noexcept nogil:
    memcpy(to.out.data + to.out.size, start, end - start)
    to.out.size += end - start


cdef inline void _local(spin_emit *to, uint8_t opcode, int kind) noexcept nogil:
    _put(to, opcode)
    _put_unsigned(to, to.locals[kind])


cdef inline void _get(spin_emit *to, int kind) noexcept nogil:
    _local(to, OP_LOCAL_GET, kind)


cdef inline void _set(spin_emit *to, int kind) noexcept nogil:
    _local(to, OP_LOCAL_SET, kind)


cdef void _constant(spin_emit *to, uint32_t value) noexcept nogil:
    _put(to, OP_I32_CONST)
    _put_signed(to, <int32_t>value)


cdef void _add_constant(spin_emit *to, uint32_t value) noexcept nogil:
    _constant(to, value)
    _put(to, OP_I32_ADD)


cdef void _access(spin_emit *to, uint8_t opcode, uint64_t offset) noexcept nogil:
    """A load or store of the log's memory."""
    _put_two(to, opcode, MEMORY_INDEXED)
    _put_unsigned(to, to.plan.undo)
    _put_unsigned(to, offset)


cdef void _read(spin_emit *to, uint8_t opcode, uint64_t place) noexcept nogil:
    """A load of a fixed place in the log's memory."""
    _put_two(to, OP_I32_CONST, 0)
    _access(to, opcode, place)


cdef void _write(spin_emit *to, int kind, uint64_t place) noexcept nogil:
    """A store of an i32 local to a fixed place in the log's memory."""
    _put_two(to, OP_I32_CONST, 0)
    _get(to, kind)
    _access(to, OP_I32_STORE, place)


cdef void _settle_head(spin_emit *to) noexcept nogil:
    """Move the head behind the records; where control branches or leaves, and before others write records."""
    if to.written:
        _get(to, LOCAL_HEAD)
        _add_constant(to, to.written)
        _set(to, LOCAL_HEAD)
        to.written = 0
    if to.has_head and not to.cached:
        _write(to, LOCAL_HEAD, AT_HEAD)
        to.has_head = False


cdef void _flush(spin_emit *to) noexcept nogil:
    if to.cached:
        _write(to, LOCAL_HEAD, AT_HEAD)


cdef void _reload(spin_emit *to) noexcept nogil:
    if to.cached:
        _read(to, OP_I32_LOAD, AT_HEAD)
        _set(to, LOCAL_HEAD)


cdef void _call_helper(spin_emit *to, int64_t function) noexcept nogil:
    """Call one of the functions that write records themselves."""
    _settle_head(to)
    _flush(to)
    _put(to, OP_CALL)
    _put_unsigned(to, <uint64_t>function)
    _reload(to)


cdef void _tick(spin_emit *to) noexcept nogil:
    """Count down, in a module made for a fault campaign."""
    if to.plan.tick >= 0:
        _put(to, OP_CALL)
        _put_unsigned(to, <uint64_t>to.plan.tick)


cdef void _need_head(spin_emit *to) noexcept nogil:
    """Have the head in its local."""
    if not to.has_head:
        _read(to, OP_I32_LOAD, AT_HEAD)
        _set(to, LOCAL_HEAD)
        to.has_head = True


cdef void _write_tag(spin_emit *to, uint64_t kind, uint64_t offset, bint at_address, uint64_t place) noexcept nogil:
    """Write ``stamp | kind << 32 | address``: sums, as no two of them share a bit. This makes it a record."""
    _get(to, LOCAL_HEAD)
    if at_address:
        _get(to, LOCAL_ADDRESS)
        _put(to, OP_I64_EXTEND_I32_U)
    _read(to, OP_I64_LOAD, AT_STAMP)
    _put(to, OP_I64_CONST)
    _put_signed(to, <int64_t>((kind << KIND_SHIFT) + offset))
    _put(to, OP_I64_ADD)
    if at_address:
        _put(to, OP_I64_ADD)
    _access(to, OP_I64_STORE, place)


cdef void _record_bytes(spin_emit *to, uint8_t width, uint64_t offset, uint64_t place) noexcept nogil:
    """A record, at ``place`` behind the head, of the bytes at the address and ``offset``."""
    _get(to, LOCAL_HEAD)
    _get(to, LOCAL_ADDRESS)
    _put_two(to, OLD_LOADS[width], 0)
    _put_unsigned(to, offset)
    _access(to, OLD_STORES[width], place + VALUE_OFFSET)
    _write_tag(to, width, offset, True, place)


cdef uint32_t _record_store(spin_emit *to, uint8_t width, uint64_t offset) noexcept nogil:
    """Records of what a store writes, behind those that there are; their bytes."""
    if width != WIDTH_VECTOR:
        _record_bytes(to, width, offset, to.written)
        return RECORD_BYTES
    _record_bytes(to, 3, offset, to.written)
    _record_bytes(to, 3, offset + 8, to.written + RECORD_BYTES)
    return 2 * RECORD_BYTES


cdef void _record_unless_dead(spin_emit *to, uint8_t width, uint64_t offset, uint64_t end) noexcept nogil:
    """The same unless the store ends in the dead stack; the head is moved at once, as later code cannot know."""
    _get(to, LOCAL_ADDRESS)
    _constant(to, <uint32_t>(to.dead_below - end))
    _put(to, OP_I32_GT_U)
    _put_two(to, OP_IF, BLOCK_OF_NOTHING)
    cdef uint32_t size = _record_store(to, width, offset)
    _get(to, LOCAL_HEAD)
    _add_constant(to, size)
    _set(to, LOCAL_HEAD)
    _put(to, OP_END)


cdef void _emit_store(spin_emit *to, const spin_walk *walk) noexcept nogil:
    """A store of any width, a vector or one lane: address and value are on the stack."""
    cdef uint8_t width = walk.opcode.width
    cdef uint64_t offset = walk.second, end = offset + (<uint64_t>1 << width)
    _tick(to)
    if end > <uint64_t>1 << 32:     # traps whatever the address
        _put_bytes(to, walk.start, walk.at)
        return
    _set(to, walk.opcode.value)
    _set(to, LOCAL_ADDRESS)
    _need_head(to)
    if end <= to.dead_below:
        _record_unless_dead(to, width, offset, end)
    else:
        to.written += _record_store(to, width, offset)
    _get(to, LOCAL_ADDRESS)
    _get(to, walk.opcode.value)
    _put_bytes(to, walk.start, walk.at)


cdef void _emit_global_get(spin_emit *to, const spin_walk *walk) noexcept nogil:
    _read(to, OP_I32_LOAD, AT_MOVED)


cdef void _record_global(spin_emit *to, uint64_t index, uint8_t store) noexcept nogil:
    _need_head(to)
    _get(to, LOCAL_HEAD)
    _put(to, OP_GLOBAL_GET)
    _put_unsigned(to, index)
    _access(to, store, to.written + VALUE_OFFSET)
    _write_tag(to, KIND_GLOBAL, index, False, to.written)
    to.written += RECORD_BYTES


cdef void _emit_global_set(spin_emit *to, const spin_walk *walk) noexcept nogil:
    cdef int64_t what = to.plan.globals[2 * walk.first]
    _tick(to)
    if what == GLOBAL_MOVED:
        _set(to, LOCAL_I32)
        _write(to, LOCAL_I32, AT_MOVED)
        return
    if what == GLOBAL_HELPER:
        _call_helper(to, to.plan.globals[2 * walk.first + 1])
    elif what != GLOBAL_FIXED:
        _record_global(to, walk.first, <uint8_t>(OP_I32_STORE + (what - GLOBAL_I32)))
    _put_bytes(to, walk.start, walk.at)


cdef void _get_three(spin_emit *to, int middle) noexcept nogil:
    _get(to, LOCAL_ADDRESS)
    _get(to, middle)
    _get(to, LOCAL_COUNT)


cdef void _set_three(spin_emit *to, int middle) noexcept nogil:
    _set(to, LOCAL_COUNT)
    _set(to, middle)
    _set(to, LOCAL_ADDRESS)


cdef void _save_range(spin_emit *to, int64_t helper) noexcept nogil:
    """Call the helper that keeps so many bytes or entries from the address on."""
    _get(to, LOCAL_ADDRESS)
    _get(to, LOCAL_COUNT)
    _call_helper(to, helper)


cdef void _emit_bulk(spin_emit *to, const spin_walk *walk) noexcept nogil:
    """``memory.copy`` or ``fill``: where to, where from or what, and how much."""
    _set_three(to, LOCAL_I32)
    _tick(to)
    _save_range(to, to.plan.save_bytes)
    _get_three(to, LOCAL_I32)
    _put_bytes(to, walk.start, walk.at)


cdef void _from_flagged(spin_emit *to, const spin_walk *walk, uint64_t flag, uint8_t opcode, uint64_t empty, uint64_t target) noexcept nogil:
    """An initialisation from a segment, or from an empty one when its flag says that it was dropped."""
    _read(to, OP_I32_LOAD8_U, SPIN_FLAGS_AT + flag)
    _put_two(to, OP_IF, BLOCK_OF_NOTHING)
    _get_three(to, LOCAL_I32)
    _put_two(to, PREFIX_MISC, opcode)
    _put_unsigned(to, empty)
    _put_unsigned(to, target)
    _put(to, OP_ELSE)
    _get_three(to, LOCAL_I32)
    _put_bytes(to, walk.start, walk.at)
    _put(to, OP_END)


cdef void _emit_memory_init(spin_emit *to, const spin_walk *walk) noexcept nogil:
    if not to.plan.data[walk.first]:
        _emit_bulk(to, walk)
        return
    _set_three(to, LOCAL_I32)
    _tick(to)
    _save_range(to, to.plan.save_bytes)
    _from_flagged(to, walk, walk.first, OP_MEMORY_INIT, to.plan.data_count, 0)


cdef void _emit_grow(spin_emit *to, const spin_walk *walk) noexcept nogil:
    _tick(to)
    _call_helper(to, to.plan.note_growth)
    _put_bytes(to, walk.start, walk.at)


cdef void _emit_drop(spin_emit *to, uint64_t flag) noexcept nogil:
    """The flag is set; the segment stays."""
    _tick(to)
    _constant(to, <uint32_t>(SPIN_FLAGS_AT + flag))
    _call_helper(to, to.plan.drop)


cdef void _emit_table_set(spin_emit *to, const spin_walk *walk) noexcept nogil:
    cdef const int64_t *table = to.plan.tables + 3 * walk.first
    _set(to, <int>table[2])
    _set(to, LOCAL_ADDRESS)
    _tick(to)
    _get(to, LOCAL_ADDRESS)
    _constant(to, 1)
    _call_helper(to, table[0])
    _get(to, LOCAL_ADDRESS)
    _get(to, <int>table[2])
    _put_bytes(to, walk.start, walk.at)


cdef void _emit_table_range(spin_emit *to, const spin_walk *walk, uint64_t index, bint fills) noexcept nogil:
    """``table.fill``, ``copy``, or ``init`` of a segment that nobody drops."""
    cdef const int64_t *table = to.plan.tables + 3 * index
    cdef int middle = <int>table[2] if fills else LOCAL_I32
    _set_three(to, middle)
    _tick(to)
    _save_range(to, table[0])
    _get_three(to, middle)
    _put_bytes(to, walk.start, walk.at)


cdef void _emit_table_init(spin_emit *to, const spin_walk *walk) noexcept nogil:
    cdef const int64_t *table = to.plan.tables + 3 * walk.second
    if not to.plan.elements[walk.first]:
        _emit_table_range(to, walk, walk.second, False)
        return
    _set_three(to, LOCAL_I32)
    _tick(to)
    _save_range(to, table[0])
    _from_flagged(to, walk, to.plan.data_count + walk.first, OP_TABLE_INIT, <uint64_t>table[1], walk.second)
