# ``raise_`` as the interpreter calls it, and what the raise of one handler (include/quick.h) leaves to others.
#
# The everyday case is C alone: from Cython come checks for errors that cannot happen, and room for cases that are none of this.

cdef PyObject *_raise_vector(PyObject *event, PyObject **arguments, Py_ssize_t count) noexcept:
    return spin_raise(&(<Dispatcher>event).quick, event, arguments, count)


cdef PyObject *_raise_one(PyObject *event, PyObject *argument) noexcept:
    return spin_raise_one(&(<Dispatcher>event).quick, event, argument)


cdef object _raise_any(PyObject *event, PyObject **arguments, Py_ssize_t count):
    """Raise with several handlers, guards or values that are no scalars."""
    cdef Dispatcher self = <Dispatcher>event
    cdef spin_raw raw[RAW_MAX]
    cdef Py_ssize_t position
    cdef bint whole = count == self.parameter_count
    try:
        if whole and self._plain and self._takes_flat(self._table):
            for position in range(count):
                _lower_scalar(self.plan, position, <object>arguments[position], &raw[position])
            return self._raise_lowered(raw)
        if whole and self._takes_walk():
            return self._raise_walked(self._table, _packed(arguments, count), self._sampled())
    except DefaultDue:
        return self.on_nothing()
    except UsageError:
        if whole:
            self.plan.check_arguments(_packed(arguments, count))  # says which argument it is
        raise
    return self.raise_slowly(*_packed(arguments, count))


cdef tuple _packed(PyObject **arguments, Py_ssize_t count):
    cdef tuple packed = PyTuple_New(count)
    cdef Py_ssize_t position
    for position in range(count):
        Py_INCREF(<object>arguments[position])
        PyTuple_SET_ITEM(packed, position, <object>arguments[position])
    return packed


cdef object _lift_any(PyObject *event, uint64_t bits):
    cdef spin_raw raw
    raw.u64 = bits
    return (<Dispatcher>event).result.lift(None, &raw)


cdef int _end_quickly(const spin_run *run, spin_raw *raw) except -1:
    cdef const spin_what *what = run.frame.what
    return (<Dispatcher>what.dispatcher)._end_one((<_Rows>what.rows).entries[0], <Instance>run.guest.owner, run, None, raw)


cdef object _answer_nothing(PyObject *event):
    return (<Dispatcher>event).on_nothing()


spin_ways.call = api.func_call_unchecked
spin_ways.raise_ = _raise_any
spin_ways.lift = _lift_any
spin_ways.end = _end_quickly
spin_ways.on_nothing = _answer_nothing


cdef PyMethodDef _raise_method
_raise_method.ml_name = "raise_"
_raise_method.ml_meth = <PyCFunction><void *>_raise_vector
_raise_method.ml_flags = METH_FASTCALL
_raise_method.ml_doc = "raise_(*arguments): run the handlers, apply their effects and return the folded result."


cdef PyMethodDef _raise_one_method
_raise_one_method.ml_name = "raise_"
_raise_one_method.ml_meth = <PyCFunction><void *>_raise_one
_raise_one_method.ml_flags = METH_O
_raise_one_method.ml_doc = "raise_(argument): run the handlers, apply their effects and return the folded result."
