# Externalized references: a Python object that names one handle of one instance.
#
# The host puts an object into a guest's table outside of a call and keeps a reference to the place. The reference can be
# passed to the guest (it is lowered to the handle), turned back into the object, or withdrawn. It is good for the tenant of the
# slot that it was made for, in that table, and for nothing else: a guest that drops the handle, or is replaced, makes it stale.
# It keeps neither the table nor the object alive.
#
# Source: Bershad et al., "Extensibility, Safety and Performance in the SPIN Operating System" (SOSP'95), section 3.1.

from weakref import ref as _weak_reference


@cython.final
@cython.auto_pickle(False)
cdef class ExternalReference:
    """Names one handle of one instance; made by `externalize` only, and good for nothing when it is made otherwise."""

    cdef object table
    cdef uint64_t generation
    cdef uint32_t slot
    cdef uint32_t type_id
    cdef object __weakref__

    def __init__(self):
        raise UsageError("external reference: found a call of its class, expected externalize() to make it")

    @property
    def resource(self):
        """WIT type of what it names, ``interface#resource``; empty for a forged one."""
        return _resource_name(self.type_id)

    cdef bint names_in(self, HandleTable table) noexcept:
        """Whether it names a live handle of that table; the table is the one that it was made for."""
        return table.slots[self.slot].generation == self.generation and table.slots[self.slot].state == SLOT_OWN

    cdef HandleTable find(self, HandleTable table, str who):
        """The table, when the reference is good for it."""
        if self.table is None:
            raise WrongDomain(f"external reference: found one that {who} never gave out, expected one made by externalize")
        own = self.table()
        if own is table and self.names_in(table):
            return table
        if own is None or own is table:
            raise CapabilityRevoked(
                f"external reference to a {_resource_name(self.type_id)}: its handle was dropped or withdrawn, or its instance was replaced"
            )
        raise WrongDomain(f"external reference to a {_resource_name(self.type_id)}: found one of another extension's table, expected one of {who}")

    cdef uint32_t handle_for(self, HandleTable table, uint32_t type_id) except 0:
        """The handle that it names, to be passed to the guest."""
        if self.type_id != type_id:
            raise UsageError(
                f"value for {_resource_name(type_id)}: found an external reference to a {_resource_name(self.type_id) or 'nothing'}, expected one of its type"
            )
        try:
            self.find(table, "the extension that is called")
        except WrongDomain as error:
            raise UsageError(f"value for {_resource_name(type_id)}: {error}")
        except CapabilityRevoked as error:
            raise RevokedArgument(f"value for {_resource_name(type_id)}: {error}")
        return table._handle(self.slot)

    def __repr__(self):
        return f"<ExternalReference to a {_resource_name(self.type_id) or 'nothing'}>"


def externalize(Instance guest not None, object target not None, str resource not None):
    """Put an object or a `Capability` into a guest's table and return a reference to its handle, which the guest owns from then on.

    Raises:
        QuotaExceeded: The table is full.
        UsageError: The capability is revoked or of another type.
    """
    cdef HandlePlan plan = HandlePlan(resource, True)
    cdef ExternalReference made = ExternalReference.__new__(ExternalReference)
    cdef HandleTable table = guest.handles
    if type(target) is ExternalReference:
        raise UsageError(f"externalize: found a reference to a {resource}, expected the object itself")
    made.slot = plan.give(guest, target) & SLOT_MASK
    made.generation = table.slots[made.slot].generation
    made.type_id = plan.type_id
    made.table = _weak_reference(table)
    return made


def internalize(Instance guest not None, ExternalReference reference not None):
    """Return the object, or the `Capability`, that a reference names.

    Raises:
        CapabilityRevoked: Its handle is gone, or the capability there was revoked.
        WrongDomain: It names a handle of another instance, or was forged.
    """
    cdef HandleTable table = reference.find(guest.handles, f"extension {guest.name}")
    target = table.objects[reference.slot]
    if type(target) is Capability:
        (<Capability>target).reach(0, "")
    return target


def withdraw(Instance guest not None, ExternalReference reference not None):
    """Take the handle away from the guest; its next use there is refused, and the object is let go.

    Raises:
        CapabilityRevoked: It is gone already.
        WrongDomain: As for `internalize`.
    """
    reference.find(guest.handles, f"extension {guest.name}")
    _take_away(guest, reference.slot)


def list_handles(Instance guest not None):
    """The live handles of an instance, as (handle, resource, whether it is owned, generation, object or `Capability`)."""
    cdef HandleTable table = guest.handles
    cdef uint32_t slot
    found = []
    for slot in range(1, table.slot_count):
        if table.slots[slot].state != SLOT_FREE and table.slots[slot].state != SLOT_SUSPENDED:
            found.append((
                table._handle(slot),
                _resource_name(table.slots[slot].type_id),
                table.slots[slot].state == SLOT_OWN,
                table.slots[slot].generation,
                table.objects[slot],
            ))
    return found
