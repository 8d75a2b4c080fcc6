# Lowering and lifting: the Canonical ABI as a tree of plans, one for each WIT type.
#
# A plan knows the size, alignment and flat core types of its type and moves a value four ways: `lower` to flat values and
# `lift` from them, `store` to guest memory and `load` from it. Every pointer and length that a guest gives is checked against
# its memory as it is now; what a call may lift in all is bounded by `lift_bytes_max`, since overlapping lists can name
# far more than the memory holds.
#
# Source: CanonicalABI.md of the WebAssembly component model (sizes, alignment, flattening, MAX_FLAT_PARAMS 16,
# MAX_FLAT_RESULTS 1). `spinrt.sandbox.abi` builds plans from WIT types.

cdef enum:
    FLAT_PARAMS_MAX = 16
    FLAT_MAX = 64
    ELEMENT_COST = 16


cdef class Instance


cdef inline uint32_t align_up(uint32_t offset, uint32_t align) noexcept:
    return (offset + align - 1) & ~(align - 1)


cdef class Plan:
    """One WIT type at the boundary.

    Attributes:
        size, align: Layout in guest memory, in bytes.
        flat: Core types when flattened, as letters (``i`` i32, ``l`` i64, ``f`` f32, ``d`` f64).
    """

    cdef readonly uint32_t size
    cdef readonly uint32_t align
    cdef readonly str flat
    cdef int flat_count

    cdef int _set(self, uint32_t size, uint32_t align, str flat) except -1:
        self.size, self.align, self.flat = size, align, flat
        self.flat_count = len(flat)
        return 0

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        raise NotImplementedError

    cdef object lift(self, Instance guest, spin_raw *flat):
        raise NotImplementedError

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        raise NotImplementedError

    cdef object load(self, Instance guest, uint32_t pointer):
        raise NotImplementedError

    cdef int fits(self, object value) except -1:
        """Refuse what `lower` would refuse whoever the guest is."""
        raise NotImplementedError


cdef enum Scalar:
    S8, U8, S16, U16, S32, U32, S64, U64, F32, F64, BOOL, CHAR

_SCALARS = {
    "s8": (S8, 1, "i", -(1 << 7), (1 << 7) - 1),
    "u8": (U8, 1, "i", 0, (1 << 8) - 1),
    "s16": (S16, 2, "i", -(1 << 15), (1 << 15) - 1),
    "u16": (U16, 2, "i", 0, (1 << 16) - 1),
    "s32": (S32, 4, "i", -(1 << 31), (1 << 31) - 1),
    "u32": (U32, 4, "i", 0, (1 << 32) - 1),
    "s64": (S64, 8, "l", -(1 << 63), (1 << 63) - 1),
    "u64": (U64, 8, "l", 0, (1 << 64) - 1),
    "f32": (F32, 4, "f", 0, 0),
    "f64": (F64, 8, "d", 0, 0),
    "bool": (BOOL, 1, "i", 0, 1),
    "char": (CHAR, 4, "i", 0, 0x10FFFF),
}


@cython.final
cdef class ScalarPlan(Plan):
    """A number, bool or char, by its WIT name."""

    cdef Scalar kind
    cdef str name
    cdef object low, high
    cdef int64_t low_fast, high_fast  # the same as far as 64 signed bits reach

    def __init__(self, str name not None):
        kind, size, flat, self.low, self.high = _SCALARS[name]
        self.low_fast, self.high_fast = self.low, min(self.high, INT64_MAX)
        self.kind = kind
        self.name = name
        self._set(size, size, flat)

    cdef inline int64_t _integer(self, object value) except? -1:
        cdef int overflow = 0
        cdef int64_t found
        if PyLong_CheckExact(value):
            found = PyLong_AsLongLongAndOverflow(value, &overflow)
            if not overflow and self.low_fast <= found <= self.high_fast:
                return found
        return self._checked_integer(value)

    cdef int64_t _checked_integer(self, object value) except? -1:
        if not isinstance(value, int) or not self.low <= value <= self.high:
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected an integer from {self.low} to {self.high}")
        if self.kind == U64:
            return <int64_t><uint64_t>value
        return value

    cdef int bound(self, spin_scalar *scalar) except -1:
        """Say what may be lowered without a look at the plan (include/quick.h)."""
        scalar.low, scalar.count = 0, 0
        if self.kind <= U64:
            scalar.low = self.low_fast
            scalar.count = min(<uint64_t>self.high_fast - <uint64_t>self.low_fast, UINT64_MAX - 1) + 1
        return 0

    cdef int keep(self, spin_kept *kept) except -1:
        """Say for which results, as the engine gives them, there is an object already (include/quick.h)."""
        if self.kind <= U32:
            kept.objects, kept.limit = spin_small_ints, SPIN_SMALL_INTS
        elif self.kind == BOOL:
            kept.objects, kept.limit = spin_bools, 2
        return 0

    cdef uint32_t _char(self, object value) except? 0xFFFFFFFF:
        if not isinstance(value, str) or len(value) != 1 or 0xD800 <= ord(value) <= 0xDFFF:
            raise UsageError(f"value for char: found {value!r:.80}, expected a string of one Unicode scalar value")
        return ord(value)

    cdef double _float(self, object value) except? -1:
        if not isinstance(value, (int, float)):
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected a number")
        return value

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        if self.kind <= U32:
            spin_raw_set(flat, <uint32_t>self._integer(value))
            return 0
        if self.kind <= U64:
            spin_raw_set(flat, <uint64_t>self._integer(value))
            return 0
        spin_raw_set(flat, 0)
        if self.kind == F32:
            flat.f32 = <float>self._float(value)
        elif self.kind == F64:
            flat.f64 = self._float(value)
        elif self.kind == BOOL:
            flat.i32 = 1 if value else 0
        else:
            flat.u32 = self._char(value)
        return 0

    cdef int fits(self, object value) except -1:
        cdef spin_raw raw
        return self.lower(None, value, &raw)

    cdef object lift(self, Instance guest, spin_raw *flat):
        if self.kind == U32:
            return flat.u32
        if self.kind == U64:
            return flat.u64
        if self.kind == S64:
            return flat.i64
        if self.kind == F32:
            return flat.f32
        if self.kind == F64:
            return flat.f64
        if self.kind == CHAR:
            return self._to_char(flat.u32)
        return self._small(flat.i32)

    cdef object _small(self, int32_t bits):
        """8- and 16-bit integers keep their low bits (CanonicalABI.md, lift_flat_unsigned and _signed)."""
        if self.kind == U8:
            return <uint8_t>bits
        if self.kind == S8:
            return <int8_t>bits
        if self.kind == U16:
            return <uint16_t>bits
        if self.kind == S16:
            return <int16_t>bits
        if self.kind == BOOL:
            return bits != 0
        return bits

    cdef object _to_char(self, uint32_t point):
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise AbiError(f"char: found {point:#x}, expected a Unicode scalar value")
        return chr(point)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef spin_raw raw
        self.lower(guest, value, &raw)
        memcpy(guest.room(pointer, self.size), &raw, self.size)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef spin_raw raw
        raw.u64 = 0
        memcpy(&raw, guest.span(pointer, self.size), self.size)
        return self.lift(guest, &raw)


cdef class SequencePlan(Plan):
    """What lies in memory as a pointer and a length: strings and lists."""

    def __init__(self):
        self._set(8, 4, "ii")

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        raise NotImplementedError

    cdef object get(self, Instance guest, uint32_t pointer, uint32_t length):
        raise NotImplementedError

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        cdef uint32_t pointer, length
        self.put(guest, value, &pointer, &length)
        flat[0].u64 = pointer
        flat[1].u64 = length
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        return self.get(guest, flat[0].u32, flat[1].u32)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef uint32_t pair[2]
        self.put(guest, value, &pair[0], &pair[1])
        memcpy(guest.room(pointer, 8), pair, 8)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t pair[2]
        memcpy(pair, guest.span(pointer, 8), 8)
        return self.get(guest, pair[0], pair[1])


@cython.final
cdef class StringPlan(SequencePlan):
    """``string``: UTF-8 in guest memory, ``str`` here."""

    cdef const char *_text(self, object value, Py_ssize_t *size) except NULL:
        if not isinstance(value, str):
            raise UsageError(f"value for string: found {type(value).__name__}, expected str")
        try:
            return PyUnicode_AsUTF8AndSize(value, size)
        except UnicodeEncodeError as error:
            raise UsageError(f"value for string: {error.reason}, expected text without lone surrogates") from None

    cdef int fits(self, object value) except -1:
        cdef Py_ssize_t size
        self._text(value, &size)
        return 0

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        cdef Py_ssize_t size
        cdef const char *text = self._text(value, &size)
        pointer[0] = guest.put_bytes(<const uint8_t *>text, size)
        length[0] = <uint32_t>size
        return 0

    cdef object get(self, Instance guest, uint32_t pointer, uint32_t length):
        guest.take_lift(length)
        cdef const char *text = <const char *>guest.span(pointer, length)
        try:
            return PyUnicode_DecodeUTF8(text, length, NULL)
        except UnicodeDecodeError as error:
            raise AbiError(f"string at {pointer:#x}: found byte {error.object[error.start]:#x} at {error.start}, expected UTF-8") from None


@cython.final
cdef class BytesPlan(SequencePlan):
    """``list<u8>``: ``bytes`` here; any bytes-like object is taken."""

    cdef int fits(self, object value) except -1:
        if not isinstance(value, bytes):
            _check_bytes_like(value)
        return 0

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        if not isinstance(value, bytes):
            value = _as_bytes(value)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
        pointer[0] = guest.put_bytes(<const uint8_t *>PyBytes_AS_STRING(value), size)
        length[0] = <uint32_t>size
        return 0

    cdef object get(self, Instance guest, uint32_t pointer, uint32_t length):
        guest.take_lift(length)
        return PyBytes_FromStringAndSize(<char *>guest.span(pointer, length), length)


cdef bytes _as_bytes(object value):
    _check_bytes_like(value)
    return bytes(value)


cdef int _check_bytes_like(object value) except -1:
    if not isinstance(value, (bytearray, memoryview)):
        raise UsageError(f"value for list<u8>: found {type(value).__name__}, expected bytes")
    return 0


@cython.final
cdef class ListPlan(SequencePlan):
    """``list<T>`` of anything but u8."""

    cdef Plan element

    def __init__(self, Plan element not None):
        SequencePlan.__init__(self)
        if element.size == 0:
            raise UsageError("list element: found a type of size 0, expected one that takes memory")
        self.element = element

    cdef int _check_list(self, object value) except -1:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"value for list: found {type(value).__name__}, expected list or tuple")
        return 0

    cdef int fits(self, object value) except -1:
        self._check_list(value)
        for item in value:
            self.element.fits(item)
        return 0

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        self._check_list(value)
        cdef uint32_t step = self.element.size
        cdef uint32_t start = guest.allocate(self.element.align, <uint64_t>len(value) * step)
        cdef uint32_t at = start
        for item in value:
            self.element.store(guest, item, at)
            at += step
        pointer[0] = start
        length[0] = <uint32_t>len(value)
        return 0

    cdef object get(self, Instance guest, uint32_t pointer, uint32_t length):
        cdef uint32_t step = self.element.size
        cdef uint32_t position
        _check_aligned(pointer, self.element.align)
        guest.span(pointer, <uint64_t>length * step)
        guest.take_lift(<uint64_t>length * (step + ELEMENT_COST))
        return [self.element.load(guest, pointer + position * step) for position in range(length)]


cdef int _check_aligned(uint32_t pointer, uint32_t align) except -1:
    if pointer & (align - 1):
        raise AbiError(f"pointer {pointer:#x}: found no multiple of {align}, expected one")
    return 0
