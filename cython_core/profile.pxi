# Where guest code spends its time: the engine's own guest profiler, fed by the tick that also watches deadlines.
#
# While guest code of a store runs, its tick comes once a millisecond on the thread that runs it; a profile takes the guest's
# stack there. A guest that is not running costs nothing and is not sampled. What the profile knows of are the modules that it
# was given; frames of others have no name.
#
# Source: wasmtime/profiling.h; the format is that of the Firefox profiler's "processed profile".

cdef extern from *:
    """
    typedef struct spin_guestprofiler spin_guestprofiler;
    typedef struct { spin_bytes *name; spin_module *module; } spin_profiled;
    typedef struct {
      spin_guestprofiler *(*make)(spin_engine *, const spin_bytes *, uint64_t, const spin_profiled *, size_t);
      void (*sample)(spin_guestprofiler *, const spin_store *, uint64_t);
      spin_error *(*finish)(spin_guestprofiler *, spin_bytes *);
      void (*discard)(spin_guestprofiler *);
    } spin_profiler_api;
    typedef struct { spin_guestprofiler *profiler; spin_store **store; uint64_t samples; } spin_profile;
    """
    const long SPIN_TICK_NS
    ctypedef struct spin_guestprofiler:
        pass
    ctypedef struct spin_profiled:
        spin_bytes *name
        spin_module *module
    ctypedef struct spin_profiler_api:
        spin_guestprofiler *(*make)(spin_engine *, const spin_bytes *, uint64_t, const spin_profiled *, size_t) noexcept nogil
        void (*sample)(spin_guestprofiler *, const spin_store *, uint64_t) noexcept nogil
        spin_error *(*finish)(spin_guestprofiler *, spin_bytes *) noexcept nogil
        void (*discard)(spin_guestprofiler *) noexcept nogil
    ctypedef struct spin_profile:
        spin_guestprofiler *profiler
        spin_store **store
        uint64_t samples

cdef spin_profiler_api profiler_api


cdef int _load_profiler() except -1:
    cdef void *library
    if profiler_api.make == NULL:
        library = _open_library()
        (<void **>&profiler_api.sample)[0] = _symbol(library, b"wasmtime_guestprofiler_sample")
        (<void **>&profiler_api.finish)[0] = _symbol(library, b"wasmtime_guestprofiler_finish")
        (<void **>&profiler_api.discard)[0] = _symbol(library, b"wasmtime_guestprofiler_delete")
        (<void **>&profiler_api.make)[0] = _symbol(library, b"wasmtime_guestprofiler_new")
    return 0


cdef void _sample(spin_state *state) noexcept nogil:
    cdef spin_profile *profile = <spin_profile *>state.profile
    profile.samples += 1
    profiler_api.sample(profile.profiler, profile.store[0], SPIN_TICK_NS)


@cython.final
cdef class GuestProfile:
    """A profile of one store that is being taken, from now until `finish`.

    Args:
        store: Whose instances are sampled.
        name: What viewers show as the title.
        modules: (name, module) of each that may run.

    Raises:
        StateError: The store is profiled already.
        InternalError: The engine gives no profiler.
    """

    cdef Store store
    cdef spin_profile profile

    def __cinit__(self, Store store not None, str name not None, tuple modules not None):
        if store.state.profile != NULL:
            raise StateError("profile: found one of this store under way, expected it to be finished first")
        _load_profiler()
        self.store = store
        self.profile.store = &store.store
        self.profile.profiler = _new_profiler(name, modules)
        store.state.profile = &self.profile
        store.state.sample = _sample

    def __dealloc__(self):
        self._stop()

    @property
    def samples(self):
        """Stacks that were taken."""
        return self.profile.samples

    def finish(self):
        """Stop, and return the profile as JSON.

        Raises:
            StateError: It was finished already, or guest code of the store is running.
        """
        cdef spin_bytes text
        cdef spin_error *error
        if self.profile.profiler == NULL:
            raise StateError("profile: it was finished already")
        if self.store.state.frame != NULL:
            raise StateError("profile: finish: found guest code of its store running, expected none")
        self._detach()
        error = profiler_api.finish(self.profile.profiler, &text)
        self.profile.profiler = NULL  # consumed, also by a failure
        if error != NULL:
            raise InternalError(f"profile: {_first_line(_take_error(error))}")
        return _take_bytes(&text)

    cdef int _detach(self) except -1:
        self.store.state.sample = NULL
        self.store.state.profile = NULL
        return 0

    cdef int _stop(self) except -1:
        if self.profile.profiler != NULL:
            self._detach()
            profiler_api.discard(self.profile.profiler)
            self.profile.profiler = NULL
        return 0


cdef spin_guestprofiler *_new_profiler(str name, tuple modules) except NULL:
    cdef spin_profiled *rows = <spin_profiled *>calloc(len(modules) + 1, sizeof(spin_profiled))
    cdef spin_bytes *names = <spin_bytes *>calloc(len(modules) + 1, sizeof(spin_bytes))
    cdef spin_guestprofiler *made
    cdef Py_ssize_t position
    cdef Module module
    cdef bytes title = name.encode()
    kept = []
    try:
        if rows == NULL or names == NULL:
            raise MemoryError
        for position, (module_name, module) in enumerate(modules):
            text = (<str>module_name).encode()
            kept.append(text)
            _point_at(&names[position], text)
            rows[position].name, rows[position].module = &names[position], module.pointer
        _point_at(&names[len(modules)], title)
        made = profiler_api.make(engine, &names[len(modules)], SPIN_TICK_NS, rows, len(modules))
    finally:
        free(rows)
        free(names)
    if made == NULL:
        raise InternalError("profile: the engine gives no profiler")
    return made


cdef int _point_at(spin_bytes *text, bytes value) except -1:
    """Let the engine read a name; it copies what it keeps."""
    text.size, text.data = <size_t>PyBytes_GET_SIZE(value), PyBytes_AS_STRING(value)
    return 0
