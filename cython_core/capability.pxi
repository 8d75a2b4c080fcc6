# Capabilities at run time: a resource with rights, which can be narrowed, handed on and taken back.
#
# Capabilities form a tree that grows downwards and is only ever walked upwards. The object itself hangs at the root; a
# capability below holds the one that it was made from, and nothing else. A use walks from the capability to the root, past
# no revoked one, and finds the object there. Revoking cuts the link above it (at a root: lets go of the object): that is O(1), it holds for all
# that was made from it, and what is revoked keeps neither the object nor anything above it alive. Nobody knows those
# below him, so nothing is kept alive from above either.
#
# Rights are methods of the resource, one bit each, so that the check on the hot path compares bits. They are worked out
# when a capability is made, never above those of its parent.

from time import time_ns as _wall_ns
from time import gmtime as _gmtime, strftime as _strftime

cdef enum:
    CHAIN_LINKS_MAX = 32
    RIGHTS_MAX = 64
    NAME_CHARACTERS_MAX = 200

cdef uint64_t ALL_RIGHTS = 0xFFFFFFFFFFFFFFFF


# Resource types by number: a number is compared on the hot path, a name is printed.
cdef dict _resource_ids = {}
cdef list _resource_names = [""]
cdef list _resource_rights = [{}]


cdef uint32_t resource_id(str name) except 0:
    """The number of a resource type, named ``interface#resource``."""
    number = _resource_ids.get(name)
    if number is None:
        number = len(_resource_names)
        _resource_names.append(name)
        _resource_rights.append({})
        _resource_ids[name] = number
    return number


cdef str _resource_name(uint32_t number):
    return _resource_names[number]


cdef uint64_t right_bit(uint32_t type_id, str right) except 0:
    """The bit of a right, which is a method's name, among those of its resource type."""
    rights = <dict>_resource_rights[type_id]
    number = rights.get(right)
    if number is None:
        if len(rights) == RIGHTS_MAX:
            raise UsageError(f"resource {_resource_name(type_id)}: found the right {right!r} besides {RIGHTS_MAX} others, expected at most {RIGHTS_MAX}")
        number = rights[right] = len(rights)
    return (<uint64_t>1) << <int>number


cdef uint64_t _rights_mask(uint32_t type_id, frozenset rights) except? 0:
    cdef uint64_t mask = 0
    if rights is None:
        return ALL_RIGHTS
    for right in rights:
        mask |= right_bit(type_id, right)
    return mask


cdef str _listed(object rights):
    return "all" if rights is None else ", ".join(sorted(rights)) or "none"


@cython.final
@cython.auto_pickle(False)
cdef class Revocation:
    """Who took a capability back, when (nanoseconds since 1970-01-01 UTC) and why."""

    cdef readonly str by
    cdef readonly str reason
    cdef readonly int64_t time_ns

    def __init__(self, str by not None, str reason not None, int64_t time_ns):
        self.by, self.reason, self.time_ns = by[:NAME_CHARACTERS_MAX], reason[:NAME_CHARACTERS_MAX], time_ns

    def __str__(self):
        moment = _strftime("%Y-%m-%d %H:%M:%SZ", _gmtime(self.time_ns // 1_000_000_000))
        return f"{self.by} revoked it at {moment}: {self.reason}"


@cython.final
@cython.auto_pickle(False)
cdef class Capability:
    """A resource, and what may be done with it.

    Args:
        target: The resource: the host's own object, never ``None`` and never a capability.
        resource: Its WIT type, ``interface#resource``.
        rights: Names of the methods that may be called; ``None`` is all of them. `mint` of ``spinrt.runtime.capability`` checks them.
        granter: Who made it.
        grant: Through which grant, if there is one; for people (`spinrt inspect`).

    Attributes:
        holder: To whom it was delegated; empty for one that the host keeps.
        parent: What it was made from; ``None`` for a root, and for one that is revoked.
        depth: Capabilities above it.
        revocation: Set when this very capability was revoked; `revoked` looks further up.

    Source: docs/design/capabilities.md.
    """

    cdef object target
    cdef readonly Capability parent
    cdef uint64_t mask
    cdef uint32_t type_id
    cdef readonly uint32_t depth
    cdef readonly frozenset rights
    cdef readonly str granter
    cdef readonly str holder
    cdef readonly object grant
    cdef readonly Revocation revocation
    cdef object __weakref__

    def __init__(self, object target not None, str resource not None, object rights=None, *, str granter not None="host", object grant=None):
        if isinstance(target, (Capability, ExternalReference)):
            raise UsageError(
                f"capability of {resource}: found a {type(target).__name__} as its object, expected the object itself",
                hint="attenuate or delegate the capability that is there",
            )
        if self.target is not None or self.parent is not None or self.revocation is not None:
            raise StateError(f"capability of {resource}: it was made already")
        self.target = target
        self._set(resource_id(resource), None if rights is None else frozenset(rights))
        self.granter, self.holder, self.grant = granter, "", grant

    cdef int _set(self, uint32_t type_id, frozenset rights) except -1:
        self.mask = _rights_mask(type_id, rights)
        self.type_id, self.rights = type_id, rights
        return 0

    @property
    def resource(self):
        """Its WIT type, ``interface#resource``."""
        return _resource_name(self.type_id)

    @property
    def revoked(self):
        """The revocation that makes it useless, its own or one above it; ``None`` while it can be used."""
        return self.find_revocation()

    cdef Revocation find_revocation(self):
        cdef Capability link = self
        while link is not None:
            if link.revocation is not None:
                return link.revocation
            link = link.parent
        return None

    cdef object refusal(self):
        """The error for a use after a revocation."""
        return CapabilityRevoked(f"capability of {_resource_name(self.type_id)}: {self.find_revocation()}")

    cdef object reach(self, uint64_t needed, str right):
        """The object, when nothing above is revoked and the rights suffice."""
        cdef Capability link = self
        while link.revocation is None:
            if link.parent is None:
                break
            link = link.parent
        if link.revocation is not None:
            raise self.refusal()
        if needed & ~self.mask:
            raise RightsExceeded(
                f"capability of {_resource_name(self.type_id)}: found a use of {right}, expected one of its rights: {_listed(self.rights)}"
            )
        return link.target

    def use(self, str right=None):
        """Return the object.

        Args:
            right: The method that it is wanted for; without one, only revocations are looked for.

        Raises:
            CapabilityRevoked: It was taken back, or one that it was made from; says by whom, when and why.
            RightsExceeded: It does not carry that right.
        """
        return self.reach(0 if right is None else right_bit(self.type_id, right), right)

    def attenuate(self, object rights not None):
        """Return a capability with these rights only, for the same holder.

        Raises:
            RightsExceeded: One of them is not among its own rights.
            CapabilityRevoked: There is nothing left to hand on.
            QuotaExceeded: It is the 32nd link of its chain.
        """
        return self._below(self._narrowed(frozenset(rights)), self.holder, self.granter, self.grant)

    def delegate(self, str to not None, *, object rights=None, object grant=None):
        """Return a capability for somebody else, with the same rights or fewer.

        Args:
            to: Who will hold it.
            rights: Names of methods; without them, all that this one has.
            grant: Through which grant, if there is one.

        Raises:
            RightsExceeded, CapabilityRevoked, QuotaExceeded: As for `attenuate`.
        """
        narrowed = self.rights if rights is None else self._narrowed(frozenset(rights))
        return self._below(narrowed, to, self.holder or self.granter, grant)

    cdef frozenset _narrowed(self, frozenset rights):
        if self.rights is not None and not rights <= self.rights:
            raise RightsExceeded(
                f"capability of {_resource_name(self.type_id)}: found the rights {_listed(rights - self.rights)} besides its own, "
                f"expected only some of: {_listed(self.rights)}"
            )
        return rights

    cdef Capability _below(self, frozenset rights, str holder, str granter, object grant):
        cdef Capability made
        if self.find_revocation() is not None:
            raise self.refusal()
        if self.depth + 1 >= CHAIN_LINKS_MAX:
            raise QuotaExceeded(
                f"capability of {_resource_name(self.type_id)}: found a chain of {CHAIN_LINKS_MAX} to add to, expected a shorter one",
                hint="delegate from one that is nearer to the root",
            )
        made = Capability.__new__(Capability)
        made._set(self.type_id, rights)
        made.parent, made.depth = self, self.depth + 1
        made.granter, made.holder, made.grant = granter, holder, grant
        return made

    def revoke(self, str by not None, str reason not None, *, object time_ns=None):
        """Take it back, and with it all that was made from it, also where it waits in a queue. The first revocation stays.

        Args:
            by, reason: What a later use is told.
            time_ns: Nanoseconds since 1970-01-01 UTC; the machine's clock by default.

        Cost: O(1).
        """
        if self.revocation is None:
            self.revocation = Revocation(by, reason, _wall_ns() if time_ns is None else time_ns)
            self.parent = None
            self.target = None

    def chain(self):
        """This capability and those above it, up to the root or to the first that is revoked."""
        cdef Capability link = self
        links = []
        while link is not None:
            links.append(link)
            link = link.parent
        return tuple(links)

    def __repr__(self):
        state = "" if self.find_revocation() is None else ", revoked"
        return f"<Capability of {_resource_name(self.type_id)} for {self.holder or 'the host'} by {self.granter}, rights: {_listed(self.rights)}{state}>"
