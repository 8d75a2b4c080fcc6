# The stub: one small module per flat signature, which walks a table of functions, so that a raise crosses into the engine
# once however many handlers it has.
#
# Its memory, from 0: the position of the handler that runs (u32), the end of the walk (u32; set to 0 it ends the walk behind the
# handler that runs), from SCRATCH_AT the results (8 bytes each, in the order of the walk), behind them the list of positions for `list`. `range` walks the
# table from one position to the end. `range-last` and `list-last` keep the last result only: its place is known when they are compiled, so that the engine
# need not check it. Eight steps are laid out in a row: the engine's own check of the deadline at each turn of a loop would cost as much as a step.

cdef enum:
    PROGRESS_AT = 0
    END_AT = 4
    SCRATCH_AT = 64
    RESULT_BYTES = 8
    STEPS_IN_A_ROW = 8
    TABLE_MIN = 64

# Its name in the frames of a trace.
STUB_NAME = "spinrt:stub"

_VALUE_TYPES = {"i": 0x7F, "l": 0x7E, "f": 0x7D, "d": 0x7C}
_STORES = {"i": 0x36, "l": 0x37, "f": 0x38, "d": 0x39}
cdef dict _stub_modules = {}

# What it exports to walk with: by whether positions are listed, and whether only the last result is kept.
cdef tuple _WALKS = (b"range", b"range-last", b"list", b"list-last")


def stub_code(str signature not None):
    """The bytes of the stub for handlers of a core type, as ``ii:i``."""
    parameters, result = signature.split(":")
    handler = _type_code(parameters, result)
    walked = _type_code("ii" + parameters, "")
    bodies = [_body(walk(len(parameters), result, last)) for walk in (_walk_range, _walk_list) for last in (False, True)]
    exports = b"".join([_named(name.decode(), 0, number) for number, name in enumerate(_WALKS)]) + _named("table", 1, 0) + _named("memory", 2, 0)
    return b"\0asm\x01\0\0\0" + b"".join((
        _section(1, b"\x02" + handler + walked),
        _section(3, b"\x04\x01\x01\x01\x01"),
        _section(4, b"\x01\x70\x00" + _leb(TABLE_MIN)),
        _section(5, b"\x01\x00\x01"),
        _section(7, b"\x06" + exports),
        _section(10, b"\x04" + b"".join(bodies)),
        _section(0, _text("name") + b"\x00" + _leb(len(_text(STUB_NAME))) + _text(STUB_NAME)),
    ))


def _leb(number):
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _section(number, content):
    return bytes((number,)) + _leb(len(content)) + content


def _text(name):
    return _leb(len(name)) + name.encode()


def _named(name, kind, index):
    return _text(name) + bytes((kind, index))


def _type_code(parameters, result):
    given = b"".join(bytes((_VALUE_TYPES[letter],)) for letter in parameters)
    back = b"".join(bytes((_VALUE_TYPES[letter],)) for letter in result)
    return b"\x60" + _leb(len(given)) + given + _leb(len(back)) + back


def _body(code):
    locals_ = b"\x01\x01\x7f"  # one i32: the position, for `list`
    return _leb(len(locals_) + len(code) + 1) + locals_ + code + b"\x0b"


def _walk_range(count, result, last):
    """(from, out, arguments…), locals 0, 1, 2…; the end is in memory, where the host can change it."""
    return _loop([_step(_plus(0, number), b"", number, count, result, last) for number in range(STEPS_IN_A_ROW)], 1)


def _walk_list(count, result, last):
    """(at, out, arguments…): the same over positions in memory."""
    kept = _leb(2 + count)
    return _loop([_step(b"\x20" + kept, b"\x20\x00\x28\x02" + _leb(4 * number) + b"\x21" + kept, number, count, result, last) for number in range(STEPS_IN_A_ROW)], 4)


def _step(position, found, number, count, result, last):
    """One of the steps in a row: say who runs, call it and keep its result. Locals 0 and 1 stay as they are for all of them: the engine keeps
    none in a register over a call."""
    place, offset = (_i32_const(SCRATCH_AT), 0) if last else (b"\x20\x01", RESULT_BYTES * number)
    arguments = b"".join(b"\x20" + _leb(2 + at) for at in range(count))
    call = arguments + position + b"\x11\x00\x00"
    code = found + b"\x41\x00" + position + b"\x36\x02" + bytes((PROGRESS_AT,))
    if not result:
        return code + call
    return code + place + call + bytes((_STORES[result], 2 if result in "if" else 3, offset))


def _loop(steps, stride):
    """Out of it at the end: locals 0 and 1 move on once for all steps."""
    *before, last = steps
    code = b"".join([step + _plus(0, stride * (number + 1)) + _until_end() for number, step in enumerate(before)]) + last
    code += _plus(1, RESULT_BYTES * len(steps)) + b"\x21\x01" + _plus(0, stride * len(steps)) + b"\x22\x00" + _until_end()
    return b"\x02\x40\x03\x40" + code + b"\x0c\x00\x0b\x0b"


def _plus(local, number):
    """A local and a small constant, added."""
    return b"\x20" + _leb(local) + (_i32_const(number) + b"\x6a" if number else b"")


def _i32_const(number):
    """Of less than 8192."""
    return b"\x41" + (bytes((number,)) if number < 0x40 else bytes((number & 0x7F | 0x80, number >> 7)))


def _until_end():
    return b"\x41\x00\x28\x02" + bytes((END_AT,)) + b"\x4f\x0d\x01"  # i32.ge_u, out of the loop


@cython.final
cdef class _Stub:
    """The stub of one event in one store, with the functions of its table as they are now."""

    cdef Store store
    cdef str signature
    cdef uint64_t generation, version
    cdef spin_table table
    cdef spin_memory memory
    cdef spin_func[4] walks     # as `_WALKS` has them
    cdef uint8_t *base
    cdef size_t memory_bytes
    cdef uint32_t table_size
    cdef _Rows rows              # whose functions the table holds …
    cdef uint32_t filled        # … up to here
    cdef bint ready             # whether all of them may be entered

    def __cinit__(self, Store store not None, str signature not None):
        self.store, self.signature = store, signature
        self.generation = GENERATION_UNKNOWN

    cdef bint _instantiate(self) except -1:
        """Make it anew in the engine store as it is now; false when that store's bounds forbid it."""
        cdef spin_instance made
        cdef spin_extern found
        cdef spin_trap *trap = NULL
        cdef spin_error *error
        cdef Module module = _stub_modules.get(self.signature)
        cdef spin_context *context = self.store.context
        if module is None:
            module = _stub_modules[self.signature] = Module(stub_code(self.signature), f"stub {self.signature}")
        error = api.instance_new(context, module.pointer, NULL, 0, &made, &trap)
        if error != NULL or trap != NULL:
            _discard(error, trap)
            return False
        for number, name in enumerate(_WALKS):
            api.instance_export_get(context, &made, <bytes>name, len(name), &found)
            self.walks[<int>number] = found.of.func
        api.instance_export_get(context, &made, b"table", 5, &found)
        self.table = found.of.table
        api.instance_export_get(context, &made, b"memory", 6, &found)
        self.memory = found.of.memory
        self.base = api.memory_data(context, &self.memory)
        self.memory_bytes = api.memory_data_size(context, &self.memory)
        self.table_size = TABLE_MIN
        self.generation = self.store.state.generation
        self.rows = None
        return True

    cdef inline int prepare(self, _Rows rows, uint32_t count) except -1:
        """Have the functions of the first `count` rows in the table, and room for their results."""
        if self.version != self.store.state.version or self.rows is not rows or self.filled < count:
            self._fill(rows, count)
        return 0

    cdef int _fill(self, _Rows rows, uint32_t count) except -1:
        cdef uint32_t position
        cdef Export export
        cdef spin_value value
        if self.generation != self.store.state.generation and not self._instantiate():
            return self._give_up(rows)
        if self.rows is not rows or self.version != self.store.state.version:
            self.rows, self.filled, self.ready = rows, 0, True
        if not self._make_room(count):
            return self._give_up(rows)
        value.kind = SPIN_VALUE_FUNC
        for position in range(self.filled, count):
            export = (<Entry>rows.entries[position]).handler
            rows.set_slot(position)
            # Broken, elsewhere, or calling others directly: such a handler is run by itself.
            if export.guest.g.state or export.guest.linked or export.guest.store is not self.store:
                self.ready = False
                continue
            export.refresh()
            value.of.func = export.function
            self._check(api.table_set(self.store.context, &self.table, position, &value))
        self.filled = count
        self.version = self.store.state.version
        return 0

    cdef int _give_up(self, _Rows rows) except -1:
        """There is no room for a stub in a store that was bounded for one extension: every handler is run by itself."""
        rows.flat = self.ready = False
        return 0

    cdef bint _make_room(self, uint32_t count) except -1:
        """Grow the table and the memory; false when the store does not allow it."""
        cdef spin_value none
        cdef uint64_t before = 0, bytes_needed = SCRATCH_AT + <uint64_t>count * (RESULT_BYTES + sizeof(uint32_t))
        memset(&none, 0, sizeof(none))
        none.kind = SPIN_VALUE_FUNC
        if count > self.table_size:
            if not _grew(api.table_grow(self.store.context, &self.table, max(count, 2 * self.table_size) - self.table_size, &none, &before)):
                return False
            self.table_size = max(count, 2 * self.table_size)
        if bytes_needed > self.memory_bytes:
            if not _grew(api.memory_grow(self.store.context, &self.memory, bytes_needed // PAGE_BYTES + 1, &before)):
                return False
            self.memory_bytes = api.memory_data_size(self.store.context, &self.memory)
        return True

    cdef int _check(self, spin_error *error) except -1:
        if error != NULL:
            raise InternalError(f"stub {self.signature}: {_first_line(_take_error(error))}")
        return 0

    cdef inline uint32_t *progress(self) noexcept:
        return <uint32_t *>(self.base + PROGRESS_AT)

    cdef inline uint32_t *end(self) noexcept:
        return <uint32_t *>(self.base + END_AT)

    cdef inline uint64_t *results(self) noexcept:
        return <uint64_t *>(self.base + SCRATCH_AT)


cdef bint _grew(spin_error *error) except -1:
    if error != NULL:
        api.error_delete(error)
    return error == NULL
