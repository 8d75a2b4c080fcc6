# Guards: when a handler runs. Declarative ones compare one field; the index makes their cost follow what matches.
#
# A path is the position of a parameter, then positions of record fields. A value that is not there (an option without
# one) or of another type holds no guard. docs/design/dispatch.md, "An entry".

class _NoClosure:
    """Stands for the absence of a closure, since every value may be one."""

    def __repr__(self):
        return "NO_CLOSURE"


NO_CLOSURE = _NoClosure()
cdef object _no_closure = NO_CLOSURE


cdef class Guard:
    """A condition on the raiser's arguments."""

    cdef bint holds(self, tuple arguments) except -1:
        raise NotImplementedError


cdef class FieldGuard(Guard):
    """A condition on one field.

    Attributes:
        path: Position of the parameter, then of fields in records.
    """

    cdef readonly tuple path

    cdef int _set(self, tuple path) except -1:
        if not path or not all(isinstance(step, int) and step >= 0 for step in path):
            raise UsageError(f"guard: found path {path!r:.80}, expected positions")
        self.path = path
        return 0

    cdef object field(self, tuple arguments):
        cdef object found = arguments
        for step in self.path:
            if not isinstance(found, tuple) or step >= len(found):
                return None
            found = found[step]
        return found


@cython.final
cdef class EqualGuard(FieldGuard):
    """Holds when the field equals a value."""

    cdef readonly object value

    def __init__(self, tuple path not None, object value):
        self._set(path)
        self.value = value

    cdef bint holds(self, tuple arguments) except -1:
        found = self.field(arguments)
        return type(found) is type(self.value) and found == self.value

    def __repr__(self):
        return f"EqualGuard({self.path}, {self.value!r})"


@cython.final
cdef class RangeGuard(FieldGuard):
    """Holds when ``low <= field <= high``; either bound may be ``None``."""

    cdef readonly object low, high

    def __init__(self, tuple path not None, object low, object high):
        self._set(path)
        self.low, self.high = low, high

    cdef bint holds(self, tuple arguments) except -1:
        found = self.field(arguments)
        if not isinstance(found, (int, float)) or isinstance(found, bool):
            return False
        return (self.low is None or self.low <= found) and (self.high is None or found <= self.high)

    def __repr__(self):
        return f"RangeGuard({self.path}, {self.low!r}, {self.high!r})"


@cython.final
cdef class PrefixGuard(FieldGuard):
    """Holds when the field, a string or bytes, begins so."""

    cdef readonly object prefix

    def __init__(self, tuple path not None, object prefix not None):
        self._set(path)
        if not isinstance(prefix, (str, bytes)):
            raise UsageError(f"guard: found prefix {prefix!r:.80}, expected text or bytes")
        self.prefix = prefix

    cdef bint holds(self, tuple arguments) except -1:
        found = self.field(arguments)
        return type(found) is type(self.prefix) and found.startswith(self.prefix)

    def __repr__(self):
        return f"PrefixGuard({self.path}, {self.prefix!r})"


@cython.final
cdef class CallGuard(Guard):
    """Holds when a function says so: an export that answers bool, or a Python callable ``guard(call[, closure], *arguments)``.

    What it promised and changed is taken back by the walk. Whether an export may serve as a guard at all is checked where it is installed.
    """

    cdef readonly object handler, domain, closure

    def __init__(self, object handler not None, object domain=None, object closure=NO_CLOSURE):
        self.handler, self.domain, self.closure = handler, domain, closure

    cdef bint ask(self, Call call, tuple arguments) except -1:
        if self.closure is not _no_closure:
            arguments = (self.closure, *arguments)
        if not isinstance(self.handler, Export):
            return bool(self.handler(call, *arguments))
        return bool((<Export>self.handler).invoke(call, arguments))


# ------------------------------------------------------------------------------------------------------------- index

cdef enum:
    NOT_FOUND = 0xFFFFFFFF

cdef int64_t BOUND_MAX = <int64_t>1 << 62


@cython.final
cdef class GuardIndex:
    """Finds the entries whose indexed guard holds: by hash for equality, by a sorted tree for ranges.

    One guard of each entry is indexed, at most: an equality on ``path`` if it has one, else a range on ``path``. The others of the entry are
    checked one by one afterwards. Entries without either are in ``rest``. Positions only ever grow.
    """

    cdef readonly tuple path
    cdef Py_ssize_t parameter   # which one the path is; -1: it leads into a record
    cdef dict equal             # value → positions
    cdef list rest
    cdef list ranges            # (low, high, position), unsorted
    cdef int64_t *lows          # sorted; with `highest` an implicit tree, made when first asked
    cdef int64_t *highs
    cdef int64_t *highest
    cdef uint32_t *owners
    cdef Py_ssize_t sorted_count
    cdef uint64_t *keys         # the same as `equal`, for raw values
    cdef uint32_t *heads
    cdef uint32_t *tails
    cdef uint32_t *chain        # position → next position of the same key
    cdef uint32_t capacity, used, chained

    def __cinit__(self, tuple path not None):
        self.path = path
        self.parameter = path[0] if len(path) == 1 else -1
        self.equal, self.rest, self.ranges = {}, [], []

    def __dealloc__(self):
        free(self.lows)
        free(self.highs)
        free(self.highest)
        free(self.owners)
        free(self.keys)
        free(self.heads)
        free(self.tails)
        free(self.chain)

    cdef bint add(self, uint32_t position, tuple guards) except -1:
        """Take in the guards of one entry; whether the index decides about it alone."""
        for guard in guards:
            if isinstance(guard, EqualGuard) and (<EqualGuard>guard).path == self.path and _hashable((<EqualGuard>guard).value):
                key = _key_of((<EqualGuard>guard).value)
                self.equal.setdefault(key, []).append(position)
                if type(key) is not str and type((<EqualGuard>guard).value) is int:
                    self._chain(_order_key((<EqualGuard>guard).value), position)
                return len(guards) == 1
        for guard in guards:
            if isinstance(guard, RangeGuard) and (<RangeGuard>guard).path == self.path and _is_integral(guard):
                self.ranges.append((_bound((<RangeGuard>guard).low, INT64_MIN), _bound((<RangeGuard>guard).high, INT64_MAX), position))
                return len(guards) == 1
        self.rest.append(position)
        return not guards

    # --------------------------------------------------------------------------------------------------------- equality

    cdef int _chain(self, int64_t key, uint32_t position) except -1:
        cdef uint32_t at
        if self.used * 2 >= self.capacity:
            self._grow()
        if position >= self.chained:
            self._lengthen(position + 1)
        self.chain[position] = NOT_FOUND
        at = self._slot(key)
        if self.heads[at] == NOT_FOUND:
            self.keys[at] = <uint64_t>key
            self.heads[at] = position
            self.used += 1
        else:
            self.chain[self.tails[at]] = position
        self.tails[at] = position
        return 0

    cdef inline uint32_t _slot(self, int64_t key) noexcept:
        cdef uint32_t mask = self.capacity - 1
        cdef uint32_t at = <uint32_t>((<uint64_t>key * <uint64_t>0x9E3779B97F4A7C15) >> 32) & mask
        while self.heads[at] != NOT_FOUND and self.keys[at] != <uint64_t>key:
            at = (at + 1) & mask
        return at

    cdef int _grow(self) except -1:
        cdef uint32_t before = self.capacity, at, slot
        cdef uint64_t *keys = self.keys
        cdef uint32_t *heads = self.heads
        cdef uint32_t *tails = self.tails
        self.capacity = max(16, before * 2)
        self.keys = <uint64_t *>malloc(self.capacity * sizeof(uint64_t))
        self.heads = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        self.tails = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        if self.keys == NULL or self.heads == NULL or self.tails == NULL:
            raise MemoryError
        memset(self.heads, 0xFF, self.capacity * sizeof(uint32_t))
        for at in range(before):
            if heads[at] != NOT_FOUND:
                slot = self._slot(<int64_t>keys[at])
                self.keys[slot], self.heads[slot], self.tails[slot] = keys[at], heads[at], tails[at]
        free(keys)
        free(heads)
        free(tails)
        return 0

    cdef int _lengthen(self, uint32_t count) except -1:
        cdef uint32_t length = max(count, 2 * self.chained)
        cdef uint32_t *longer = <uint32_t *>realloc(self.chain, length * sizeof(uint32_t))
        if longer == NULL:
            raise MemoryError
        self.chain, self.chained = longer, length
        return 0

    # ----------------------------------------------------------------------------------------------------------- ranges

    cdef int _sort(self) except -1:
        """Lay the ranges out by their lower bound; each node of the implicit tree knows the highest upper bound below it."""
        cdef Py_ssize_t count = len(self.ranges), at
        free(self.lows)
        free(self.highs)
        free(self.highest)
        free(self.owners)
        self.lows = <int64_t *>malloc(max(count, 1) * sizeof(int64_t))
        self.highs = <int64_t *>malloc(max(count, 1) * sizeof(int64_t))
        self.highest = <int64_t *>malloc(max(count, 1) * sizeof(int64_t))
        self.owners = <uint32_t *>malloc(max(count, 1) * sizeof(uint32_t))
        self.sorted_count = 0
        if self.lows == NULL or self.highs == NULL or self.highest == NULL or self.owners == NULL:
            raise MemoryError
        for at, (low, high, position) in enumerate(sorted(self.ranges)):
            self.lows[at], self.highs[at], self.owners[at] = low, high, position
        self._raise_highest(0, count)
        self.sorted_count = count
        return 0

    cdef int64_t _raise_highest(self, Py_ssize_t begin, Py_ssize_t end) noexcept:
        cdef Py_ssize_t middle = (begin + end) // 2
        cdef int64_t found
        if begin >= end:
            return INT64_MIN
        found = max(self.highs[middle], max(self._raise_highest(begin, middle), self._raise_highest(middle + 1, end)))
        self.highest[middle] = found
        return found

    cdef uint32_t _stab(self, Py_ssize_t begin, Py_ssize_t end, int64_t key, uint32_t *found, uint32_t count) noexcept:
        """Positions of all ranges that hold `key`, written behind `count`; the new count."""
        cdef Py_ssize_t middle = (begin + end) // 2
        if begin >= end or self.highest[middle] < key:
            return count
        count = self._stab(begin, middle, key, found, count)
        if self.lows[middle] > key:
            return count
        if key <= self.highs[middle]:
            found[count] = self.owners[middle]
            count += 1
        return self._stab(middle + 1, end, key, found, count)

    cdef uint32_t _ranges_with(self, int64_t key, uint32_t *found, uint32_t count) except? 0xFFFFFFFF:
        if self.sorted_count != len(self.ranges):
            self._sort()
        return self._stab(0, self.sorted_count, key, found, count)

    # ---------------------------------------------------------------------------------------------------------- queries

    cdef uint32_t candidates_raw(self, int64_t key, int64_t range_key, uint32_t end, uint32_t *found) except? 0xFFFFFFFF:
        """Positions below `end` that may hold for that raw value, ascending, into `found` (room for all); how many."""
        cdef uint32_t count = 0, position
        if self.used:
            position = self.heads[self._slot(key)]
            while position != NOT_FOUND:
                found[count] = position
                count += 1
                position = self.chain[position]
        if self.ranges or self.rest:
            count = self._with_others(range_key, True, found, count)
        return _below(found, count, end)

    cdef uint32_t candidates(self, object value, uint32_t end, uint32_t *found) except? 0xFFFFFFFF:
        """The same for a Python value."""
        cdef uint32_t count = 0
        cdef bint integral = type(value) is int
        if _hashable(value):
            for position in self.equal.get(_key_of(value), ()):
                found[count] = position
                count += 1
        if self.ranges or self.rest:
            count = self._with_others(_clamped(value) if integral else 0, integral, found, count)
        if self.ranges and type(value) is float:
            for low, high, position in self.ranges:
                if low <= value <= high:
                    found[count] = position
                    count += 1
            qsort(found, count, sizeof(uint32_t), _compare_positions)
        return _below(found, count, end)

    cdef uint32_t _with_others(self, int64_t key, bint integral, uint32_t *found, uint32_t count) except? 0xFFFFFFFF:
        cdef uint32_t begin = count
        if integral and self.ranges:
            count = self._ranges_with(key, found, count)
        for position in self.rest:
            found[count] = position
            count += 1
        if count > 1:
            qsort(found, count, sizeof(uint32_t), _compare_positions)
        return count


cdef int _compare_positions(const void *left, const void *right) noexcept nogil:
    cdef uint32_t a = (<const uint32_t *>left)[0], b = (<const uint32_t *>right)[0]
    return (a > b) - (a < b)


cdef inline uint32_t _below(uint32_t *found, uint32_t count, uint32_t end) noexcept:
    """How many of ascending positions lie below `end`: a raise sees no entry that was appended after it began."""
    while count and found[count - 1] >= end:
        count -= 1
    return count


cdef bint _hashable(object value) except -1:
    return isinstance(value, (str, bytes, int))


cdef object _key_of(object value):
    """Equal only for values of one type: 1 and True are two."""
    return value if type(value) is str else (type(value), value)


cdef bint _is_integral(RangeGuard guard) except -1:
    """Whether both bounds are integers well inside 64 bits: the extremes of the tree then mean that there is no bound."""
    for bound in (guard.low, guard.high):
        if bound is not None and not (type(bound) is int and -BOUND_MAX <= bound <= BOUND_MAX):
            return False
    return True


cdef int64_t _bound(object bound, int64_t otherwise) except? -1:
    return otherwise if bound is None else bound


cdef int64_t _clamped(object value) except? -1:
    return max(INT64_MIN, min(INT64_MAX, value))


cdef int64_t _order_key(object value) except? -1:
    """An integer as its low 64 bits: u64 and s64 are told apart by the type of the parameter."""
    return <int64_t><uint64_t>(value & 0xFFFFFFFFFFFFFFFF)
