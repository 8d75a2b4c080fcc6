# Promises of a mail delivery that are served in C (spinrt/mail/host/delivery.py and tags.py have the interfaces).
#
# What a text comes to under a grant (a mailbox name in its canonical form, say, or not granted) is a function of the text, so
# it is worked out once and kept: a rule files into the same few mailboxes again and again.

cdef enum:
    KEPT_MAX = 256
    KEPT_TEXT_BYTES_MAX = 256


@cython.final
cdef class DeliveryContext:
    """One transaction, as host functions find it in ``call.context``.

    Attributes:
        recipient: Whose ``deliver`` event is being handled; none outside of one.
    """

    cdef readonly str delivery_id
    cdef readonly str protocol
    cdef readonly str sender
    cdef readonly LentMessage message
    cdef public object recipient

    def __init__(self, str delivery_id not None, str protocol not None, str sender not None, LentMessage message not None):
        self.delivery_id, self.protocol, self.sender, self.message = delivery_id, protocol, sender, message


@cython.final
cdef class Tag(Wish):
    """``spinrt:undo/tags#tag``: belongs to the transaction, not to a recipient."""

    cdef readonly str extension
    cdef readonly str key
    cdef readonly bytes value

    def __init__(self, str extension not None, str key not None, bytes value not None):
        self.extension, self.key, self.value = extension, key, value

    def __eq__(self, other):
        if type(other) is not Tag:
            return NotImplemented
        return self._parts() == (<Tag>other)._parts()

    def __hash__(self):
        return hash(self._parts())

    def __repr__(self):
        return f"Tag{self._parts()!r}"

    cdef tuple _parts(self):
        return self.extension, self.key, self.value


@cython.final
cdef class AddHeader(Wish):
    """A wish of mail as those in spinrt/mail/host/effects.py: a header field to stand on top of the message; ``line`` is the whole field with CRLF."""

    cdef readonly str extension
    cdef readonly str name
    cdef readonly bytes line

    def __init__(self, str extension not None, str name not None, bytes line not None):
        self.extension, self.name, self.line = extension, name, line

    def decide(self, decision):
        decision.headers.append(self.line)

    def describe(self):
        return f"add {self.name}"

    def __eq__(self, other):
        if type(other) is not AddHeader:
            return NotImplemented
        return self._parts() == (<AddHeader>other)._parts()

    def __hash__(self):
        return hash(self._parts())

    def __repr__(self):
        return f"AddHeader{self._parts()!r}"

    cdef tuple _parts(self):
        return self.extension, self.name, self.line


def effects_of(list effects not None, type kind not None):
    """Those of the effects that are of a class, not of one below it, in order."""
    return tuple([effect for effect in effects if type(effect) is kind])


def tags_of(list effects not None):
    """What a delivery's record keeps of the tags among effects: ``(extension, key, value)`` of each, in order."""
    return tuple([(<Tag>effect)._parts() for effect in effects if type(effect) is Tag])


cdef bint is_deciding(object call):
    """Whether a promise for the recipient under decision has its place in that call, and room."""
    cdef DeliveryContext context = delivery_of(call)
    return context is not None and context.recipient is not None


cdef DeliveryContext delivery_of(object call):
    """The transaction that a call belongs to while its running handler has room for an effect, or none."""
    if call is None or (<Call>call).journal.room == 0:
        return None
    context = (<Call>call).context
    return context if type(context) is DeliveryContext else None


@cython.final
cdef class KeptTexts:
    """What texts of guests come to: at most `KEPT_MAX` of at most `KEPT_TEXT_BYTES_MAX` bytes, all forgotten when there are more."""

    cdef object prepare
    cdef type kind
    cdef dict kept

    def __init__(self, object prepare not None, type kind not None):
        self.prepare, self.kind, self.kept = prepare, kind, {}

    cdef object find(self, const uint8_t *text, uint32_t length):
        """What a text comes to; none when that is a refusal, or the text is too long to be kept."""
        if text == NULL or length > KEPT_TEXT_BYTES_MAX:
            return None
        key = PyBytes_FromStringAndSize(<const char *>text, length)
        found = self.kept.get(key)
        return self._prepare(key) if found is None else found

    cdef object _prepare(self, bytes key):
        try:
            made = self.prepare(key.decode())
        except UnicodeDecodeError:
            return None
        if not isinstance(made, self.kind):
            return None
        if len(self.kept) >= KEPT_MAX:
            self.kept.clear()
        self.kept[key] = made
        return made


@cython.final
cdef class PromiseFunction(NativeFunction):
    """``func(text: string) -> result<_, problem>``, which promises something for the recipient under decision.

    Args:
        prepare: Gives the `Wish` that a text comes to, or anything else for a refusal; depends on nothing but the text.
        closure: Serves what is not promised.
    """

    cdef KeptTexts texts

    def __init__(self, object prepare, object closure not None):
        self._set("iii:", closure)
        self.texts = KeptTexts(prepare, Wish)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef uint32_t length = raw[1].u32
        if length > guest.g.lift_left or not is_deciding(guest.call):
            return 0
        effect = self.texts.find(bytes_at(guest, raw[0].u32, length), length)
        if effect is None:
            return 0
        guest.g.lift_left -= length
        (<Call>guest.call).journal.add(effect)
        guest.room(pointer, 1)[0] = 0
        return 1


@cython.final
cdef class TagFunction(NativeFunction):
    """``tag: func(key: string, value: list<u8>) -> result<_, problem>``.

    Args:
        extension: Whose tags these are.
        value_bytes_max: The longest value that is attached.
        prepare: Gives a key that may be attached, or anything else for a refusal; depends on nothing but the key.
        closure: Serves what is not attached.
    """

    cdef KeptTexts keys
    cdef str extension
    cdef uint32_t value_bytes_max

    def __init__(self, str extension not None, uint32_t value_bytes_max, object prepare, object closure not None):
        self._set("iiiii:", closure)
        self.extension, self.value_bytes_max = extension, value_bytes_max
        self.keys = KeptTexts(prepare, str)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef uint32_t key_bytes = raw[1].u32
        cdef uint32_t value_bytes = raw[3].u32
        cdef const uint8_t *value = bytes_at(guest, raw[2].u32, value_bytes)
        if value == NULL or value_bytes > self.value_bytes_max or <uint64_t>key_bytes + value_bytes > guest.g.lift_left:
            return 0
        if delivery_of(guest.call) is None:
            return 0
        key = self.keys.find(bytes_at(guest, raw[0].u32, key_bytes), key_bytes)
        if key is None:
            return 0
        guest.g.lift_left -= <uint64_t>key_bytes + value_bytes
        (<Call>guest.call).journal.add(self._tag(key, PyBytes_FromStringAndSize(<const char *>value, value_bytes)))
        guest.room(pointer, 1)[0] = 0
        return 1

    cdef Tag _tag(self, str key, bytes value):
        cdef Tag made = Tag.__new__(Tag)
        made.extension, made.key, made.value = self.extension, key, value
        return made


@cython.final
cdef class AddHeaderFunction(NativeFunction):
    """``add-header: func(name: string, value: string) -> result<_, problem>``.

    Args:
        extension: Whose fields these are.
        value_bytes_max: The longest value that is added.
        prepare: Gives a name that may be added, or anything else for a refusal; depends on nothing but the name.
        closure: Serves what is not added, and what is not ASCII.
    """

    cdef KeptTexts names
    cdef str extension
    cdef uint32_t value_bytes_max

    def __init__(self, str extension not None, uint32_t value_bytes_max, object prepare, object closure not None):
        self._set("iiiii:", closure)
        self.extension, self.value_bytes_max = extension, value_bytes_max
        self.names = KeptTexts(prepare, str)

    cdef int serve(self, Instance guest, spin_raw *raw, uint32_t pointer) except -1:
        cdef uint32_t name_bytes = raw[1].u32, value_bytes = raw[3].u32
        cdef const uint8_t *name_at = bytes_at(guest, raw[0].u32, name_bytes)
        cdef const uint8_t *value = bytes_at(guest, raw[2].u32, value_bytes)
        cdef bytes line
        if value == NULL or value_bytes > self.value_bytes_max or <uint64_t>name_bytes + value_bytes > guest.g.lift_left:
            return 0
        if not is_deciding(guest.call) or not _is_plain_value(value, value_bytes):
            return 0
        name = self.names.find(name_at, name_bytes)
        if name is None:
            return 0
        guest.g.lift_left -= <uint64_t>name_bytes + value_bytes
        line = _field_line(name_at, name_bytes, value, value_bytes)
        (<Call>guest.call).journal.add(self._field(name, line))
        guest.room(pointer, 1)[0] = 0
        return 1

    cdef AddHeader _field(self, str name, bytes line):
        cdef AddHeader made = AddHeader.__new__(AddHeader)
        made.extension, made.name, made.line = self.extension, name, line
        return made


cdef bint _is_plain_value(const uint8_t *value, size_t length) noexcept:
    """Whether a value is ASCII without controls but tabs: it stands in a field as it is."""
    cdef size_t position
    for position in range(length):
        if not (0x20 <= value[position] < 0x7F or value[position] == 0x09):
            return False
    return True


cdef bytes _field_line(const uint8_t *name, size_t name_bytes, const uint8_t *value, size_t value_bytes):
    cdef bytes line = PyBytes_FromStringAndSize(NULL, name_bytes + value_bytes + 4)
    cdef char *at = PyBytes_AS_STRING(line)
    memcpy(at, name, name_bytes)
    memcpy(at + name_bytes, b": ", 2)
    memcpy(at + name_bytes + 2, value, value_bytes)
    memcpy(at + name_bytes + 2 + value_bytes, b"\r\n", 2)
    return line
