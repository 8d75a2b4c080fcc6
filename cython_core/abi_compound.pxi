# Compound types: records, tuples, variants and their kin, flags, handles; and whole functions.
#
# Variants flatten to a case number and the join of what their cases carry, so a slot may be wider than the value in it:
# slots are zeroed first and read at the width of the case that is there.


@cython.final
cdef class RecordPlan(Plan):
    """A record or tuple. It is lifted into ``kind``, a subclass of tuple; any tuple or list of its length is lowered."""

    cdef tuple fields
    cdef type kind
    cdef str name
    cdef uint32_t offsets[FLAT_MAX]

    def __init__(self, str name not None, tuple fields not None, type kind not None=tuple):
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
        if not issubclass(kind, tuple):
            raise UsageError(f"{name}: found {kind.__name__} to lift into, expected a kind of tuple")
        self.name, self.fields, self.kind = name, fields, kind
        self._set(align_up(offset, align), align, "".join([(<Plan>plan).flat for plan in fields]))

    cdef int _check(self, object value) except -1:
        if not isinstance(value, (tuple, list)) or len(value) != len(self.fields):
            found = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
            raise UsageError(f"value for {self.name}: found {found}, expected a tuple of {len(self.fields)}")
        return 0

    cdef int fits(self, object value) except -1:
        cdef Py_ssize_t position
        self._check(value)
        for position in range(len(self.fields)):
            (<Plan>PyTuple_GET_ITEM(self.fields, position)).fits(_item(value, position))
        return 0

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        cdef Plan field
        cdef int at = 0
        cdef Py_ssize_t position
        self._check(value)
        for position in range(len(self.fields)):
            field = <Plan>PyTuple_GET_ITEM(self.fields, position)
            field.lower(guest, _item(value, position), flat + at)
            at += field.flat_count
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        cdef Plan field
        cdef int at = 0
        values = []
        for field in self.fields:
            values.append(field.lift(guest, flat + at))
            at += field.flat_count
        return self._build(tuple(values))

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef Py_ssize_t position
        self._check(value)
        for position in range(len(self.fields)):
            (<Plan>PyTuple_GET_ITEM(self.fields, position)).store(guest, _item(value, position), pointer + self.offsets[position])
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef Py_ssize_t position
        values = []
        for position in range(len(self.fields)):
            values.append((<Plan>self.fields[position]).load(guest, pointer + self.offsets[position]))
        return self._build(tuple(values))

    cdef object _build(self, tuple values):
        """A named tuple without its own `__new__`, which is written in Python and slow."""
        if self.kind is tuple:
            return values
        arguments = (values,)
        return (<PyTypeObject *>tuple).tp_new(self.kind, <PyObject *>arguments, NULL)


cdef inline object _item(object value, Py_ssize_t position):
    """An item of a record's value; named tuples are asked for theirs as any tuple is."""
    return <object>PyTuple_GET_ITEM(value, position) if isinstance(value, tuple) else value[position]


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

    cdef int fits(self, object value) except -1:
        cdef void *payload = <void *>None
        plan = self.payloads[self.split(value, &payload)]
        if plan is not None:
            (<Plan>plan).fits(<object>payload)
        return 0

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
        memcpy(guest.room(pointer, self.tag_size), &number, self.tag_size)
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

    cdef int fits(self, object value) except -1:
        self._bits(value)
        return 0

    cdef object _set_of(self, uint32_t bits):
        return frozenset([name for position, name in enumerate(self.names) if bits >> <int>position & 1])

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        flat.u64 = self._bits(value)
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        return self._set_of(flat.u32)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef uint32_t bits = self._bits(value)
        memcpy(guest.room(pointer, self.size), &bits, self.size)
        return 0

    cdef object load(self, Instance guest, uint32_t pointer):
        cdef uint32_t bits = 0
        memcpy(&bits, guest.span(pointer, self.size), self.size)
        return self._set_of(bits)


@cython.final
cdef class HandlePlan(Plan):
    """``own<r>`` or ``borrow<r>``: a handle in the guest, the host's own object or a `Capability` here.

    With a `right` it is the receiver of a method: what is lifted is always the object itself, and a capability must carry that
    right. Without one, a capability is lifted as it is, so that whoever gets it has no more than its holder had.
    An `ExternalReference` is lowered to the handle that it names.
    """

    cdef uint32_t type_id
    cdef bint own
    cdef str right
    cdef uint64_t right_mask

    def __init__(self, str resource not None, bint own, str right not None=""):
        self.type_id = resource_id(resource)
        self.own, self.right = own, right
        self.right_mask = right_bit(self.type_id, right) if right else 0
        self._set(4, 4, "i")

    cdef int fits(self, object value) except -1:
        if value is None:
            raise UsageError(f"value for {_resource_name(self.type_id)}: found None, expected an object")
        if type(value) is Capability:
            self._check_given(<Capability>value)
        return 0

    cdef uint32_t give(self, Instance guest, object value) except 0:
        if type(value) is ExternalReference:
            return (<ExternalReference>value).handle_for(guest.handles, self.type_id)
        self.fits(value)
        return _add_handle(guest, value, self.type_id, SLOT_OWN if self.own else SLOT_BORROW)

    cdef int _check_given(self, Capability value) except -1:
        """A revoked capability is refused when it is passed, so that nothing runs for it; waiting in a queue saves none."""
        if value.type_id != self.type_id:
            raise UsageError(
                f"value for {_resource_name(self.type_id)}: found a capability of {_resource_name(value.type_id)}, expected one of its type"
            )
        revocation = value.find_revocation()
        if revocation is not None:
            raise RevokedArgument(f"value for {_resource_name(self.type_id)}: found a revoked capability ({revocation}), expected one that can be used")
        return 0

    cdef object take(self, Instance guest, uint32_t handle):
        cdef uint32_t slot = guest.handles.find(handle, self.type_id)
        target = guest.handles.objects[slot]
        if type(target) is Capability:
            reached = (<Capability>target).reach(self.right_mask, self.right)
            if self.right_mask:
                target = reached
        if self.own:
            if guest.handles.slots[slot].state != SLOT_OWN:
                raise WrongDomain(f"handle {handle:#x}: found a borrow, expected a handle that the extension owns")
            _take_away(guest, slot)
        return target

    cdef int lower(self, Instance guest, object value, spin_raw *flat) except -1:
        flat.u64 = self.give(guest, value)
        return 0

    cdef object lift(self, Instance guest, spin_raw *flat):
        return self.take(guest, flat.u32)

    cdef int store(self, Instance guest, object value, uint32_t pointer) except -1:
        cdef uint32_t handle = self.give(guest, value)
        memcpy(guest.room(pointer, 4), &handle, 4)
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
    cdef readonly bint is_flat  # nothing but numbers, bools and chars: no memory and no handle is involved
    cdef tuple scalars
    cdef tuple names            # of the parameters

    def __init__(self, str name not None, tuple parameters not None, Plan result, tuple names not None=()):
        self.name, self.names = name, names
        self.parameter_count = len(parameters)
        self.parameters = RecordPlan(f"arguments of {name}", parameters) if parameters else None
        self.result = result
        flat = self.parameters.flat if parameters else ""
        self.parameters_in_memory = len(flat) > FLAT_PARAMS_MAX
        self.result_in_memory = result is not None and result.flat_count > 1
        letters = "i" if self.parameters_in_memory else flat
        given = "" if result is None else "i" if self.result_in_memory else result.flat
        self.export_signature = f"{letters}:{given}"
        self.import_signature = f"{letters}i:" if self.result_in_memory else f"{letters}:{given}"
        self.scalars = parameters
        self.is_flat = len(parameters) <= FLAT_PARAMS_MAX and all([isinstance(one, ScalarPlan) for one in parameters]) and (
            result is None or isinstance(result, ScalarPlan)
        )

    def check_arguments(self, tuple arguments not None):
        """Refuse what no guest would be passed, as it is when one is: for calls that meet none.

        Raises:
            UsageError, RevokedArgument: There is another number of them, or one does not have its parameter's type.
        """
        if len(arguments) != self.parameter_count:
            raise UsageError(f"{self.name}: found {len(arguments)} arguments, expected {self.parameter_count}")
        if self.parameters is None:
            return
        try:
            self.parameters.fits(arguments)
        except UsageError:
            self._refuse(arguments)

    cdef int _refuse(self, tuple arguments) except -1:
        """Say of arguments that do not fit which is the first that does not."""
        cdef Plan plan
        for position, plan in enumerate(self.scalars):
            try:
                plan.fits(arguments[position])
            except UsageError as error:
                if type(error) is not UsageError:
                    raise
                called = f" ({self.names[position]})" if position < len(self.names) else ""
                raise UsageError(f"{self.name}: argument {position + 1}{called}: {error}", hint=error.hint) from None
        return 0

    def check_result(self, object answer):
        """Refuse what is no result of this function; a function without a result may answer anything, which nobody gets.

        Raises:
            UsageError: It does not have the result's type.
        """
        if self.result is not None:
            self.result.fits(answer)
