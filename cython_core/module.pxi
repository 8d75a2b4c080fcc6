# Modules: compiled code, and what it imports and exports.

cdef str _kind_name(uint8_t kind):
    return ("function", "global", "table", "memory")[kind] if kind < 4 else "tag"


cdef spin_valtype *vector_type = api.valtype_vector()


cdef str _value_letters(const spin_valtypes *types):
    """``i`` i32, ``l`` i64, ``f`` f32, ``d`` f64; ``?`` for what the Canonical ABI never passes."""
    cdef size_t position
    cdef uint8_t kind
    letters = []
    for position in range(types.size):
        if api.valtype_equal(types.data[position], vector_type):    # asked for its kind, the engine ends the process
            letters.append("?")
            continue
        kind = api.valtype_kind(types.data[position])
        letters.append("ilfd"[kind] if kind < 4 else "?")
    return "".join(letters)


cdef str _signature(const spin_externtype *type):
    """``parameters:results`` in letters for a function, and an empty string for anything else."""
    if api.externtype_kind(type) != 0:
        return ""
    cdef const spin_functype *function = api.externtype_as_functype(type)
    return f"{_value_letters(api.functype_params(function))}:{_value_letters(api.functype_results(function))}"


cdef str _name_text(const spin_bytes *name):
    return PyBytes_FromStringAndSize(name.data, <Py_ssize_t>name.size).decode("utf-8", "replace")


# What ``spinrt.sandbox.rewrite`` exports of a module for the host's own use.
START_EXPORT = "spinrt:start"
GLOBAL_EXPORT = "spinrt:global/"
cdef bytes GLOBAL_EXPORT_BYTES = GLOBAL_EXPORT.encode()


@cython.final
cdef class Module:
    """A compiled module.

    Args:
        code: The module; or, with `compiled`, what `serialized` returned. That is native code, which is not looked at: it must
            come from where nobody else can write.

    Attributes:
        imports: (module, name, kind, signature) of each import, in the module's order.
        exports: name → (kind, signature).

    ``kind`` is function, global, table, memory or tag; ``signature`` is ``ii:l`` for (i32, i32) → i64.
    """

    cdef spin_module *pointer
    cdef readonly tuple imports
    cdef readonly dict exports
    cdef readonly str name
    cdef list host_globals      # names of the globals that are exported for the host

    def __cinit__(self, bytes code not None, str name not None="module", *, bint compiled=False):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(code)
        cdef size_t size = <size_t>PyBytes_GET_SIZE(code)
        cdef spin_error *error
        if compiled:
            error = api.module_deserialize(engine, data, size, &self.pointer)
        else:
            error = api.module_new(engine, data, size, &self.pointer)
        if error != NULL:
            self.pointer = NULL
            raise ModuleError(
                f"module {name}: {_module_reason(_take_error(error))}",
                hint="spinrt takes core modules without threads, memory64, GC or exceptions",
            )
        self.name = name
        self.imports = self._read_imports()
        self.exports = self._read_exports()
        self.host_globals = [found.encode() for found, (kind, _) in self.exports.items() if kind == "global" and found.startswith(GLOBAL_EXPORT)]

    def __dealloc__(self):
        if self.pointer != NULL:
            api.module_delete(self.pointer)

    def serialized(self):
        """Return the compiled code, to be given back as `code` with `compiled`."""
        cdef spin_bytes made
        cdef spin_error *error = api.module_serialize(self.pointer, &made)
        if error != NULL:
            raise InternalError(f"module {self.name}: cannot be serialized: {_take_error(error)}")
        return _take_bytes(&made)

    cdef tuple _read_imports(self):
        cdef spin_importtypes types
        cdef const spin_externtype *type
        cdef size_t position
        api.module_imports(self.pointer, &types)
        found = []
        for position in range(types.size):
            type = api.importtype_type(types.data[position])
            found.append((
                _name_text(api.importtype_module(types.data[position])),
                _name_text(api.importtype_name(types.data[position])),
                _kind_name(_extern_kind(type)),
                _signature(type),
            ))
        api.importtypes_delete(&types)
        return tuple(found)

    cdef dict _read_exports(self):
        cdef spin_exporttypes types
        cdef const spin_externtype *type
        cdef size_t position
        api.module_exports(self.pointer, &types)
        found = {}
        for position in range(types.size):
            type = api.exporttype_type(types.data[position])
            found[_name_text(api.exporttype_name(types.data[position]))] = (_kind_name(_extern_kind(type)), _signature(type))
        api.exporttypes_delete(&types)
        return found


cdef uint8_t _extern_kind(const spin_externtype *type):
    return api.externtype_kind(type)


cdef str _module_reason(str message):
    """The engine's message in one line: its last cause says most."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    reason = "; ".join(line for line in lines if not line.endswith(":"))
    return reason[:300]
