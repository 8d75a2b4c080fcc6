# The table walk: one event's active bindings as an immutable flat table.
#
# Installing and uninstalling build a new table and swap one reference, so a raise that is under way walks the table
# that it began with and takes no lock. An entry is an `Export` of a guest or a Python callable, called as
# `handler(call, *arguments)`. `Export.rebind` moves an entry to a fresh instance without a new table.

@cython.final
cdef class Table:
    """The handlers of an event in their order, and for each the domain that it belongs to and its limit of effects."""

    cdef readonly tuple handlers
    cdef readonly tuple domains
    cdef tuple effects_max

    def __init__(self, tuple handlers not None=(), tuple domains not None=(), tuple effects_max not None=()):
        if not len(handlers) == len(domains) == len(effects_max):
            raise InternalError("dispatch table: found columns of different lengths")
        self.handlers, self.domains, self.effects_max = handlers, domains, effects_max

    def __len__(self):
        return len(self.handlers)

    def walk(self, Call call not None, tuple arguments not None, object on_fault not None):
        """Run every handler in order and return their results as a list.

        A handler that fails loses its effects; then ``on_fault(domain, error)`` is called, and if it returns, the walk
        goes on behind the handler, which gives no result. What is no `SpinError` (KeyboardInterrupt, say) ends the walk.
        """
        cdef Py_ssize_t position, mark
        cdef Journal journal = call.journal
        outer, room = call.domain, journal.room
        results = []
        try:
            for position in range(len(self.handlers)):
                mark = len(journal.effects)
                call.domain = self.domains[position]
                journal.room = self.effects_max[position]
                try:
                    results.append(_run_handler(self.handlers[position], call, arguments))
                except SpinError as error:
                    journal.roll_back(mark)
                    on_fault(call.domain, error)
                except BaseException as error:
                    journal.roll_back(mark)
                    on_fault(call.domain, error)
                    raise
        finally:
            call.domain, journal.room = outer, room
        return results

    cdef int raise_flat(self, spin_raw *raw) except -1:
        """Raise an event whose arguments and result are flat values, from Cython: for one handler, one unchecked call.

        `raw` holds the arguments and then the last result; with several handlers it is laid out anew for each.
        """
        cdef spin_raw arguments[FLAT_PARAMS_MAX + 1]
        cdef Py_ssize_t position, count = len(self.handlers)
        if count == 1:
            return (<Export>self.handlers[0]).call_flat(raw)
        memcpy(arguments, raw, sizeof(arguments))
        for position in range(count):
            memcpy(raw, arguments, sizeof(arguments))
            (<Export>self.handlers[position]).call_flat(raw)
        return 0


cdef object _run_handler(object handler, Call call, tuple arguments):
    if isinstance(handler, Export):
        return (<Export>handler).invoke(call, arguments)
    return handler(call, *arguments)
