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

    def __init__(self, str name not None):
        kind, size, flat, self.low, self.high = _SCALARS[name]
        self.kind = kind
        self.name = name
        self._set(size, size, flat)

    cdef int64_t _integer(self, object value) except? -1:
        if not isinstance(value, int) or not self.low <= value <= self.high:
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected an integer from {self.low} to {self.high}")
        if self.kind == U64:
            return <int64_t><uint64_t>value
        return value

    cdef uint32_t _char(self, object value) except? 0xFFFFFFFF:
        if not isinstance(value, str) or len(value) != 1 or 0xD800 <= ord(value) <= 0xDFFF:
            raise UsageError(f"value for char: found {value!r:.80}, expected a string of one Unicode scalar value")
        return ord(value)

    cdef double _float(self, object value) except? -1:
        if not isinstance(value, (int, float)):
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected a number")
        return value

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        flat.u64 = 0
        if self.kind <= U32:
            flat.i32 = <int32_t>self._integer(value)
        elif self.kind <= U64:
            flat.i64 = self._integer(value)
        elif self.kind == F32:
            flat.f32 = <float>self._float(value)
        elif self.kind == F64:
            flat.f64 = self._float(value)
        elif self.kind == BOOL:
            flat.i32 = 1 if value else 0
        else:
            flat.u32 = self._char(value)
        return 0

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
        memcpy(guest.span(pointer, self.size), &raw, self.size)
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
        memcpy(guest.span(pointer, 8), pair, 8)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t pair[2]
        memcpy(pair, guest.span(pointer, 8), 8)
        return self.get(guest, pair[0], pair[1])


@cython.final
cdef class StringPlan(SequencePlan):
    """``string``: UTF-8 in guest memory, ``str`` here."""

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        cdef Py_ssize_t size
        cdef const char *text
        if not isinstance(value, str):
            raise UsageError(f"value for string: found {type(value).__name__}, expected str")
        try:
            text = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError as error:
            raise UsageError(f"value for string: {error.reason}, expected text without lone surrogates") from None
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
    if not isinstance(value, (bytearray, memoryview)):
        raise UsageError(f"value for list<u8>: found {type(value).__name__}, expected bytes")
    return bytes(value)


@cython.final
cdef class ListPlan(SequencePlan):
    """``list<T>`` of anything but u8."""

    cdef Plan element

    def __init__(self, Plan element not None):
        SequencePlan.__init__(self)
        if element.size == 0:
            raise UsageError("list element: found a type of size 0, expected one that takes memory")
        self.element = element

    cdef int put(self, Instance guest, object value, uint32_t *pointer, uint32_t *length) except -1:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"value for list: found {type(value).__name__}, expected list or tuple")
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


@cython.final
cdef class RecordPlan(Plan):
    """A record or tuple. ``make(*fields)`` builds the lifted value; any tuple or list of the right length is lowered."""

    cdef tuple fields
    cdef object make
    cdef str name
    cdef uint32_t offsets[FLAT_MAX]

    def __init__(self, str name not None, tuple fields not None, object make):
        cdef uint32_t offset = 0
        cdef uint32_t align = 1
        cdef Plan field
        if not 0 < len(fields) <= FLAT_MAX:
            raise UsageError(f"{name}: found {len(fields)} fields, expected 1 to {FLAT_MAX}")
        for position, field in enumerate(fields):
            offset = align_up(offset, field.align)
            self.offsets[position] = offset
            offset += field.size
            align = max(align, field.align)
        self.name, self.fields, self.make = name, fields, make
        self._set(align_up(offset, align), align, "".join([(<Plan>plan).flat for plan in fields]))

    cdef int _check(self, object value) except -1:
        if not isinstance(value, (tuple, list)) or len(value) != len(self.fields):
            found = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
            raise UsageError(f"value for {self.name}: found {found}, expected a tuple of {len(self.fields)}")
        return 0

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        cdef Plan field
        cdef int at = 0
        cdef Py_ssize_t position
        self._check(value)
        for position in range(len(self.fields)):
            field = <Plan>self.fields[position]
            field.lower(guest, value[position], flat + at)
            at += field.flat_count
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        cdef Plan field
        cdef int at = 0
        values = []
        for field in self.fields:
            values.append(field.lift(guest, flat + at))
            at += field.flat_count
        return self.make(*values)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef Py_ssize_t position
        self._check(value)
        for position in range(len(self.fields)):
            (<Plan>self.fields[position]).store(guest, value[position], pointer + self.offsets[position])
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef Py_ssize_t position
        values = []
        for position in range(len(self.fields)):
            values.append((<Plan>self.fields[position]).load(guest, pointer + self.offsets[position]))
        return self.make(*values)


cdef str _join(str left, str right):
    """Flat types that can carry either of two cases (CanonicalABI.md, flatten_variant)."""
    joined = []
    for position in range(max(len(left), len(right))):
        a = left[position : position + 1]
        b = right[position : position + 1]
        if not a or not b or a == b:
            joined.append(a or b)
        else:
            joined.append("i" if {a, b} == {"i", "f"} else "l")
    return "".join(joined)


cdef class VariantPlan(Plan):
    """A variant: ``(case, payload)`` here. Options, results and enums are variants with another shape in Python."""

    cdef tuple names
    cdef tuple payloads
    cdef dict numbers
    cdef str name
    cdef uint32_t tag_size
    cdef uint32_t payload_offset

    def __init__(self, str name not None, tuple names not None, tuple payloads not None):
        cdef uint32_t size = 0
        cdef uint32_t align
        cdef Plan plan
        flat = ""
        self.name, self.names, self.payloads = name, names, payloads
        self.numbers = {case: number for number, case in enumerate(names)}
        self.tag_size = 1 if len(names) <= 1 << 8 else 2 if len(names) <= 1 << 16 else 4
        align = 1
        for payload in payloads:
            if payload is not None:
                plan = payload
                size, align = max(size, plan.size), max(align, plan.align)
                flat = _join(flat, plan.flat)
        self.payload_offset = align_up(self.tag_size, align)
        align = max(align, self.tag_size)
        self._set(align_up(self.payload_offset + size, align), align, "i" + flat)

    cdef uint32_t split(self, object value, void **payload) except? 0xFFFFFFFF:
        """The case's number; `payload` becomes a borrowed reference to what it carries."""
        if not isinstance(value, tuple) or len(value) != 2 or value[0] not in self.numbers:
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected (case, payload) with one of {', '.join(self.names)}")
        payload[0] = <void *>(<tuple>value)[1]
        return self.numbers[value[0]]

    cdef object build(self, uint32_t number, object payload):
        return self.names[number], payload

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        cdef void *payload = <void *>None
        cdef uint32_t number = self.split(value, &payload)
        memset(flat, 0, self.flat_count * sizeof(spin_raw))
        flat[0].u32 = number
        plan = self.payloads[number]
        if plan is not None:
            (<Plan>plan).lower(guest, <object>payload, flat + 1)
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        cdef uint32_t number = self._check(flat[0].u32)
        plan = self.payloads[number]
        return self.build(number, None if plan is None else (<Plan>plan).lift(guest, flat + 1))

    cdef uint32_t _check(self, uint32_t number) except? 0xFFFFFFFF:
        if number >= <uint32_t>len(self.names):
            raise AbiError(f"{self.name}: found case {number}, expected one below {len(self.names)}")
        return number

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef void *payload = <void *>None
        cdef uint32_t number = self.split(value, &payload)
        memcpy(guest.span(pointer, self.tag_size), &number, self.tag_size)
        plan = self.payloads[number]
        if plan is not None:
            (<Plan>plan).store(guest, <object>payload, pointer + self.payload_offset)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t number = 0
        memcpy(&number, guest.span(pointer, self.tag_size), self.tag_size)
        self._check(number)
        plan = self.payloads[number]
        return self.build(number, None if plan is None else (<Plan>plan).load(guest, pointer + self.payload_offset))


@cython.final
cdef class EnumPlan(VariantPlan):
    """An enum: its case's name."""

    def __init__(self, str name not None, tuple names not None):
        VariantPlan.__init__(self, name, names, (None,) * len(names))

    cdef uint32_t split(self, object value, void **payload) except? 0xFFFFFFFF:
        number = self.numbers.get(value) if isinstance(value, str) else None
        if number is None:
            raise UsageError(f"value for {self.name}: found {value!r:.80}, expected one of {', '.join(self.names)}")
        return number

    cdef object build(self, uint32_t number, object payload):
        return self.names[number]


@cython.final
cdef class OptionPlan(VariantPlan):
    """An option: ``None`` or the value."""

    def __init__(self, Plan element not None):
        VariantPlan.__init__(self, "option", ("none", "some"), (None, element))

    cdef uint32_t split(self, object value, void **payload) except? 0xFFFFFFFF:
        payload[0] = <void *>value
        return 0 if value is None else 1

    cdef object build(self, uint32_t number, object payload):
        return payload


@cython.final
cdef class ResultPlan(VariantPlan):
    """A result: an object of the classes ``ok`` or ``err``, which have one attribute ``value``."""

    cdef object ok
    cdef object err
    cdef object held

    def __init__(self, object ok_plan, object err_plan, object ok, object err):
        VariantPlan.__init__(self, "result", ("ok", "err"), (ok_plan, err_plan))
        self.ok, self.err = ok, err

    cdef uint32_t split(self, object value, void **payload) except? 0xFFFFFFFF:
        cdef bint good = isinstance(value, self.ok)
        if not good and not isinstance(value, self.err):
            raise UsageError(f"value for result: found {value!r:.80}, expected Ok(…) or Err(…)")
        carried = value.value
        payload[0] = <void *>carried  # `value` keeps it alive
        return 0 if good else 1

    cdef object build(self, uint32_t number, object payload):
        return self.ok(payload) if number == 0 else self.err(payload)


@cython.final
cdef class FlagsPlan(Plan):
    """Flags, at most 32: a frozenset of the names that are set."""

    cdef tuple names
    cdef str name

    def __init__(self, str name not None, tuple names not None):
        if not 0 < len(names) <= 32:
            raise UsageError(f"flags {name}: found {len(names)}, expected 1 to 32")
        self.name, self.names = name, names
        size = 1 if len(names) <= 8 else 2 if len(names) <= 16 else 4
        self._set(size, size, "i")

    cdef uint32_t _bits(self, object value) except? 0xFFFFFFFF:
        cdef uint32_t bits = 0
        cdef int position
        for name in value:
            try:
                position = self.names.index(name)
            except ValueError:
                raise UsageError(f"value for {self.name}: found {name!r:.80}, expected some of {', '.join(self.names)}") from None
            bits |= <uint32_t>1 << position
        return bits

    cdef object _set_of(self, uint32_t bits):
        return frozenset([name for position, name in enumerate(self.names) if bits >> <int>position & 1])

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        flat.u64 = self._bits(value)
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        return self._set_of(flat.u32)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef uint32_t bits = self._bits(value)
        memcpy(guest.span(pointer, self.size), &bits, self.size)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t bits = 0
        memcpy(&bits, guest.span(pointer, self.size), self.size)
        return self._set_of(bits)


@cython.final
cdef class HandlePlan(Plan):
    """``own<r>`` or ``borrow<r>``: the host's own object here, a handle in the guest."""

    cdef uint32_t type_id
    cdef bint own

    def __init__(self, str resource not None, bint own):
        self.type_id = resource_id(resource)
        self.own = own
        self._set(4, 4, "i")

    cdef uint32_t give(self, Instance guest, object value) except 0:
        if value is None:
            raise UsageError(f"value for {_resource_name(self.type_id)}: found None, expected an object")
        return guest.handles.add(value, self.type_id, SLOT_OWN if self.own else SLOT_BORROW)

    cdef object take(self, Instance guest, uint32_t handle):
        cdef uint32_t slot = guest.handles.find(handle, self.type_id)
        target = guest.handles.objects[slot]
        if self.own:
            if guest.handles.slots[slot].state != SLOT_OWN:
                raise WrongDomain(f"handle {handle:#x}: found a borrow, expected a handle that the extension owns")
            guest.handles.release(slot)
        return target

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        flat.u64 = self.give(guest, value)
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        return self.take(guest, flat.u32)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef uint32_t handle = self.give(guest, value)
        memcpy(guest.span(pointer, 4), &handle, 4)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t handle
        memcpy(&handle, guest.span(pointer, 4), 4)
        return self.take(guest, handle)


@cython.final
cdef class FunctionPlan:
    """A function at the boundary.

    Attributes:
        name: As messages show it, ``spinrt:kv/store@1.0.0#get``.
        import_signature, export_signature: Core type of the import and of the export, as ``ii:l``.
    """

    cdef readonly str name
    cdef readonly str import_signature
    cdef readonly str export_signature
    cdef Plan parameters
    cdef int parameter_count
    cdef Plan result
    cdef bint parameters_in_memory
    cdef bint result_in_memory

    def __init__(self, str name not None, tuple parameters not None, Plan result):
        self.name = name
        self.parameter_count = len(parameters)
        self.parameters = RecordPlan(f"arguments of {name}", parameters, _pack) if parameters else None
        self.result = result
        flat = self.parameters.flat if parameters else ""
        self.parameters_in_memory = len(flat) > FLAT_PARAMS_MAX
        self.result_in_memory = result is not None and result.flat_count > 1
        letters = "i" if self.parameters_in_memory else flat
        given = "" if result is None else "i" if self.result_in_memory else result.flat
        self.export_signature = f"{letters}:{given}"
        self.import_signature = f"{letters}i:" if self.result_in_memory else f"{letters}:{given}"


def _pack(*values):
    return values
