# SHA-256 of something short, without an object made for it. A record's chain value is one of 60 bytes, of which making the object is
# three quarters of the time.

cdef extern from *:
    """
    typedef int (*spin_sha256_init)(void *);
    typedef int (*spin_sha256_update)(void *, const void *, size_t);
    typedef int (*spin_sha256_final)(unsigned char *, void *);
    """
    ctypedef int (*spin_sha256_init)(void *) noexcept
    ctypedef int (*spin_sha256_update)(void *, const void *, size_t) noexcept
    ctypedef int (*spin_sha256_final)(unsigned char *, void *) noexcept

cdef enum:
    SHA256_BYTES = 32
    SHA256_WORDS = 32       # of 8 bytes: room for twice the state that OpenSSL has had since 0.9.8 (112 bytes)
    SHA256_SHORT = 2048     # from here on hashlib lets other threads run meanwhile

cdef spin_sha256_init sha256_init = NULL
cdef spin_sha256_update sha256_update = NULL
cdef spin_sha256_final sha256_final = NULL


cdef int _find_sha256() except -1:
    """Find the functions in the library that hashlib is linked with; where they are not, hashlib does all of it."""
    global sha256_init, sha256_update, sha256_final
    try:
        import _hashlib
        library = dlopen(_hashlib.__file__.encode(), RTLD_NOW)
    except (ImportError, AttributeError):  # hashlib without OpenSSL, or part of the interpreter
        return 0
    if library == NULL:
        return 0
    sha256_update = <spin_sha256_update>dlsym(library, b"SHA256_Update")
    sha256_final = <spin_sha256_final>dlsym(library, b"SHA256_Final")
    if sha256_update != NULL and sha256_final != NULL:
        sha256_init = <spin_sha256_init>dlsym(library, b"SHA256_Init")
    return 0


_find_sha256()


cdef int _sha256_into(unsigned char *digest, const char *data, Py_ssize_t size) except -1:
    """Write the 32 bytes of the digest."""
    cdef uint64_t[SHA256_WORDS] state
    cdef bytes made
    if sha256_init != NULL and sha256_init(state) and sha256_update(state, data, size) and sha256_final(digest, state):
        return 0
    made = _sha256(PyBytes_FromStringAndSize(data, size)).digest()
    memcpy(digest, PyBytes_AS_STRING(made), SHA256_BYTES)
    return 0


def sha256_of(bytes data not None):
    """The SHA-256 of some bytes, soonest for those of less than 2 KiB."""
    cdef bytes digest
    if PyBytes_GET_SIZE(data) >= SHA256_SHORT:
        return _sha256(data).digest()
    digest = PyBytes_FromStringAndSize(NULL, SHA256_BYTES)
    _sha256_into(<unsigned char *>PyBytes_AS_STRING(digest), PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    return digest
