# Instructions of function bodies, read one after the other at the speed of C. spinrt/sandbox/binary_walk.py does the
# same in Python, and names the shapes; the table of opcodes comes from there (spinrt/sandbox/binary_opcodes.py).
#
# The engine has validated what is read here, but nothing relies on that: every byte is looked at only within the body.

# What follows an opcode. Python numbers the kinds of its table by this order.
INSTRUCTION_SHAPES = (
    "unknown", "none", "index", "two-indices", "memory", "two-memories", "index-memory", "memarg", "memarg-lane", "lane",
    "block", "labels", "types", "reference", "s32", "s64", "four-bytes", "eight-bytes", "sixteen-bytes",
)

cdef enum:
    SHAPE_UNKNOWN, SHAPE_NONE, SHAPE_INDEX, SHAPE_TWO_INDICES, SHAPE_MEMORY, SHAPE_TWO_MEMORIES, SHAPE_INDEX_MEMORY
    SHAPE_MEMARG, SHAPE_MEMARG_LANE, SHAPE_LANE, SHAPE_BLOCK, SHAPE_LABELS, SHAPE_TYPES, SHAPE_REFERENCE, SHAPE_S32
    SHAPE_S64, SHAPE_FOUR_BYTES, SHAPE_EIGHT_BYTES, SHAPE_SIXTEEN_BYTES

cdef enum:
    OPCODE_PAGE = 256           # opcodes of one byte, then those behind 0xFC, then those behind 0xFD
    PREFIX_MISC = 0xFC
    PREFIX_SIMD = 0xFD
    BLOCK_OF_NOTHING = 0x40
    MEMARG_ALIGN_END = 0x40     # the bit that announces the index of a memory
    TYPE_REFERENCE = 2          # of the flags of a byte as a value type: 1 number or vector, 2 reference

# An entry of the table, as Python packs it.
cdef struct spin_opcode:
    uint8_t shape
    uint8_t action              # instrument.pxi: what is done to it
    uint8_t width               # of a store: log2 of its bytes
    uint8_t value               # of a store: which added local takes its value

# What was wrong, in the order of _DAMAGES.
cdef enum:
    DAMAGE_NONE, DAMAGE_END, DAMAGE_LONG, DAMAGE_LARGE, DAMAGE_OPCODE, DAMAGE_MEMORY, DAMAGE_TYPE, DAMAGE_COUNT, DAMAGE_REST
    DAMAGE_INDEX, DAMAGE_LOCALS, DAMAGE_SIZE

_DAMAGES = (
    ("nothing", "nothing"),
    ("the end", "more bytes"),
    ("a longer integer", "one of at most 32 or 64 bits"),
    ("a larger integer", "one of at most 32 or 64 bits"),
    ("", "an instruction of WebAssembly 2.0"),
    ("several memories or an impossible alignment", "memory 0"),
    ("an unknown type", "a value type or the index of a type"),
    ("a vector that is longer than the code", "a shorter one"),
    ("the end of a function's blocks", "it with the last byte of its code"),
    ("an index of something that is not there", "a smaller one"),
    ("more locals than leave room for ours", "at most 49,980"),
    ("a function that is too large when it is rewritten", "a smaller one, or limits.undo_bytes 0"),
)

# A place in a body, and the instruction last read.
cdef struct spin_walk:
    const uint8_t *at
    const uint8_t *end
    const uint8_t *start        # where the instruction begins
    const spin_opcode *table
    const uint8_t *types        # flags of each byte as a value type
    spin_opcode opcode
    uint64_t first              # its immediates; of a memarg the alignment, then the offset
    uint64_t second
    int damage
    const uint8_t *damaged      # where


cdef int _damage(spin_walk *walk, int what, const uint8_t *where) noexcept nogil:
    walk.damage = what
    walk.damaged = where
    return -1


cdef int _read_long(spin_walk *walk, int bits, uint64_t *value) noexcept nogil:
    """An unsigned LEB128 of up to so many bits."""
    cdef const uint8_t *start = walk.at
    cdef uint64_t found = 0
    cdef int shift = 0
    cdef uint8_t byte
    while True:
        if walk.at >= walk.end:
            return _damage(walk, DAMAGE_END, start)
        byte = walk.at[0]
        walk.at += 1
        if bits - shift < 7 and (byte & 0x7F) >> (bits - shift):
            return _damage(walk, DAMAGE_LONG if byte & 0x80 else DAMAGE_LARGE, start)
        found |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            return _damage(walk, DAMAGE_LONG, start)
    value[0] = found
    return 0


cdef inline int _read_u32(spin_walk *walk, uint64_t *value) noexcept nogil:
    if walk.at < walk.end and walk.at[0] < 0x80:
        value[0] = walk.at[0]
        walk.at += 1
        return 0
    return _read_long(walk, 32, value)


cdef int _skip_signed(spin_walk *walk, int bits, int64_t *value) noexcept nogil:
    """A signed LEB128; the bits that do not fit must repeat the sign."""
    cdef const uint8_t *start = walk.at
    cdef uint64_t found = 0
    cdef int shift = 0, rest
    cdef uint8_t byte
    while True:
        if walk.at >= walk.end:
            return _damage(walk, DAMAGE_END, start)
        byte = walk.at[0]
        walk.at += 1
        found |= <uint64_t>(byte & 0x7F) << shift
        rest = bits - shift     # bits that this byte may give
        shift += 7
        if byte < 0x80:
            break
        if shift >= bits:
            return _damage(walk, DAMAGE_LONG, start)
    if rest < 7 and (byte >> (rest - 1)) != 0 and (byte >> (rest - 1)) != (0x7F >> (rest - 1)):
        return _damage(walk, DAMAGE_LARGE, start)
    if byte & 0x40 and shift < 64:
        found |= ~<uint64_t>0 << shift
    value[0] = <int64_t>found
    return 0


cdef inline int _skip_bytes(spin_walk *walk, uint64_t size) noexcept nogil:
    if size > <uint64_t>(walk.end - walk.at):
        return _damage(walk, DAMAGE_END, walk.at)
    walk.at += size
    return 0


cdef int _skip_block_type(spin_walk *walk) noexcept nogil:
    cdef const uint8_t *start = walk.at
    cdef int64_t index = 0
    if walk.at >= walk.end:
        return _damage(walk, DAMAGE_END, start)
    if walk.at[0] == BLOCK_OF_NOTHING or walk.types[walk.at[0]]:
        walk.at += 1
        return 0
    if _skip_signed(walk, 33, &index) < 0:
        return -1
    return _damage(walk, DAMAGE_TYPE, start) if index < 0 else 0


cdef int _skip_count(spin_walk *walk, uint64_t *count) noexcept nogil:
    """The length of a vector, whose elements take a byte each at least."""
    cdef const uint8_t *start = walk.at
    if _read_u32(walk, count) < 0:
        return -1
    return _damage(walk, DAMAGE_COUNT, start) if count[0] > <uint64_t>(walk.end - walk.at) else 0


cdef int _skip_labels(spin_walk *walk) noexcept nogil:
    cdef uint64_t count = 0, label = 0, position
    if _skip_count(walk, &count) < 0:
        return -1
    for position in range(count + 1):
        if _read_u32(walk, &label) < 0:
            return -1
    return 0


cdef int _skip_types(spin_walk *walk) noexcept nogil:
    cdef uint64_t count = 0, position
    if _skip_count(walk, &count) < 0:
        return -1
    for position in range(count):
        if not walk.types[walk.at[position]]:
            return _damage(walk, DAMAGE_TYPE, walk.at + position)
    walk.at += count
    return 0


cdef int _skip_reference(spin_walk *walk) noexcept nogil:
    if walk.at >= walk.end:
        return _damage(walk, DAMAGE_END, walk.at)
    if walk.types[walk.at[0]] != TYPE_REFERENCE:
        return _damage(walk, DAMAGE_TYPE, walk.at)
    walk.at += 1
    return 0


cdef int _skip_memory(spin_walk *walk) noexcept nogil:
    cdef const uint8_t *start = walk.at
    cdef uint64_t memory = 0
    if _read_u32(walk, &memory) < 0:
        return -1
    return _damage(walk, DAMAGE_MEMORY, start) if memory else 0


cdef int _read_memarg(spin_walk *walk) noexcept nogil:
    cdef const uint8_t *start = walk.at
    if _read_u32(walk, &walk.first) < 0:
        return -1
    if walk.first >= MEMARG_ALIGN_END:
        return _damage(walk, DAMAGE_MEMORY, start)
    return _read_u32(walk, &walk.second)


cdef int _read_rarer(spin_walk *walk, uint8_t shape) noexcept nogil:
    cdef int64_t value = 0
    if shape == SHAPE_TWO_INDICES:
        return -1 if _read_u32(walk, &walk.first) < 0 else _read_u32(walk, &walk.second)
    if shape == SHAPE_LANE:
        return _skip_bytes(walk, 1)
    if shape == SHAPE_MEMARG_LANE:
        return -1 if _read_memarg(walk) < 0 else _skip_bytes(walk, 1)
    if shape == SHAPE_S64:
        return _skip_signed(walk, 64, &value)
    if shape == SHAPE_FOUR_BYTES:
        return _skip_bytes(walk, 4)
    if shape == SHAPE_EIGHT_BYTES:
        return _skip_bytes(walk, 8)
    if shape == SHAPE_SIXTEEN_BYTES:
        return _skip_bytes(walk, 16)
    if shape == SHAPE_LABELS:
        return _skip_labels(walk)
    if shape == SHAPE_TYPES:
        return _skip_types(walk)
    if shape == SHAPE_REFERENCE:
        return _skip_reference(walk)
    if shape == SHAPE_MEMORY:
        return _skip_memory(walk)
    if shape == SHAPE_TWO_MEMORIES:
        return -1 if _skip_memory(walk) < 0 else _skip_memory(walk)
    if shape == SHAPE_INDEX_MEMORY:
        return -1 if _read_u32(walk, &walk.first) < 0 else _skip_memory(walk)
    return _damage(walk, DAMAGE_OPCODE, walk.start)


cdef int _read_opcode(spin_walk *walk) noexcept nogil:
    """Read the opcode at `at`, which is within the body."""
    cdef uint8_t byte = walk.at[0]
    cdef uint64_t second = 0
    walk.at += 1
    if byte != PREFIX_MISC and byte != PREFIX_SIMD:
        walk.opcode = walk.table[byte]
        return 0
    if _read_u32(walk, &second) < 0:
        return -1
    if second >= OPCODE_PAGE:
        return _damage(walk, DAMAGE_OPCODE, walk.start)
    walk.opcode = walk.table[OPCODE_PAGE * (1 if byte == PREFIX_MISC else 2) + second]
    return 0


cdef int _read_instruction(spin_walk *walk) noexcept nogil:
    """Read the next instruction; 0, or -1 when it is damaged or the body has ended."""
    cdef int64_t value = 0
    cdef uint8_t shape
    walk.start = walk.at
    if walk.at >= walk.end:
        return _damage(walk, DAMAGE_END, walk.at)
    if _read_opcode(walk) < 0:
        return -1
    shape = walk.opcode.shape
    if shape == SHAPE_NONE:
        return 0
    if shape == SHAPE_INDEX:
        return _read_u32(walk, &walk.first)
    if shape == SHAPE_S32:
        return _skip_signed(walk, 32, &value)
    if shape == SHAPE_MEMARG:
        return _read_memarg(walk)
    if shape == SHAPE_BLOCK:
        return _skip_block_type(walk)
    return _read_rarer(walk, shape)


# How a body declares its locals: so many groups from ``start`` on, and how many locals that are.
cdef struct spin_locals:
    const uint8_t *start
    uint64_t groups
    uint64_t total


cdef int _read_locals(spin_walk *walk, spin_locals *found) noexcept nogil:
    """Pass over the declaration of locals; ``at`` is then at the first instruction."""
    cdef const uint8_t *start = walk.at
    cdef uint64_t position, count = 0
    found.total = 0
    if _skip_count(walk, &found.groups) < 0:
        return -1
    found.start = walk.at
    for position in range(found.groups):
        if _read_u32(walk, &count) < 0:
            return -1
        found.total += count
        if walk.at >= walk.end:
            return _damage(walk, DAMAGE_END, start)
        if not walk.types[walk.at[0]]:
            return _damage(walk, DAMAGE_TYPE, walk.at)
        walk.at += 1
    return 0
