"""Crash records: a fault with all that it takes to run it again, as values and as bytes.

What is in one, and where, stands in docs/formats/crash-record.md; this file writes and reads it. A record is input from
outside: every length, number and name is checked when it is read, and whatever is wrong ends in `CorruptRecord`.

    8 bytes   magic ``spincrsh``
    u32       version, 1
    sections  each once, in the order of `SECTIONS`: tag (4 bytes), u32 stored length, u32 plain length, zlib stream
    "end."    as a section of 32 plain bytes: SHA-256 of everything before this section

Numbers are little-endian. Source: docs/design/supervisor.md, "Crash records".
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from spinrt.errors import CorruptRecord, FormatUnknown, SpinError
from spinrt.sandbox.values import ValueReader, put_text
from spinrt.sandbox.wit_syntax import Source

MAGIC: Final = b"spincrsh"
VERSION: Final = 1
END: Final = b"end."
SECTIONS: Final = {
    b"head": 1 << 20,
    b"wit ": 16 << 20,
    b"mani": 1 << 20,
    b"code": 64 << 20,
    b"mem ": 256 << 20,
    b"stat": 4 << 20,
    b"reso": 256 << 20,
    b"args": 64 << 20,
    b"call": 64 << 20,
}
"""Sections in their order, and how many plain bytes each may have."""
MEMORY_BYTES_MAX: Final = SECTIONS[b"mem "]
CONTENT_BYTES_MAX: Final = 1 << 20
"""Of one resource, such as a message: more of it is left out."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Image:
    """The state of an instance at rest; see `spinrt._core.read_image` and ``read_handles``.

    ``objects`` are the numbers of what the taken slots name.
    """

    memory: bytes
    globals_: tuple[tuple[str, int], ...]
    moved: int
    flags: bytes
    slots: tuple[tuple[int, str, bool], ...] = ()
    free_slots: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a handle named: its type, and its first bytes where it can be read (none where it cannot)."""

    type: str
    size: int = 0
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class HostCall:
    """One call of a host function: arguments and result as `spinrt.sandbox.values` writes them.

    Attributes:
        import_: Which of the module's imports.
        arguments: All of them, one behind the other.
        result: Empty where there is none, or where it failed.
        failure: Code, text and hint of what it raised; none where it returned.
    """

    import_: int
    arguments: bytes
    result: bytes = b""
    failure: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call failed with; code empty when it did not fail."""

    code: str = ""
    text: str = ""

    @classmethod
    def of(cls, error: SpinError | None) -> Outcome:
        return cls() if error is None else cls(error.code, str(error))

    def is_like(self, other: Outcome) -> bool:
        """Whether it is the same fault: texts may name times and numbers of this run, codes do not."""
        return self.code == other.code


@dataclass(frozen=True, slots=True)
class About:
    """What a record says of itself: the section ``head``, as JSON with these keys.

    Attributes:
        time: When it failed, UTC.
        spinrt, engine, python: Versions.
        extension, version: Whose handler it was.
        event, export: What was raised, and which export handled it.
        closure: Passed in front of the arguments; none: nothing was.
        quantum_ticks: Of an ephemeral handler; else 0.
        limits: By name.
        grants: Interface → functions and attenuations of the policy.
        config: Of the extension.
        fault: What it failed with.
        backtrace: Its frames: module, function, offset in the module that ran.
        image: ``before`` the call, or ``initialised``: of a fresh instance, as nothing could be rolled back.
        again: What the second run failed with; its host calls are those of the record.
        calls_complete: Whether all of these are there.
    """

    time: str
    spinrt: str
    engine: str
    python: str
    extension: str
    version: str
    event: str
    export: str
    closure: int | None
    quantum_ticks: int
    limits: Mapping[str, int]
    grants: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, str]
    fault: Outcome
    backtrace: tuple[tuple[str, int, int], ...]
    image: str
    again: Outcome
    calls_complete: bool


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """One fault; see docs/formats/crash-record.md."""

    about: About
    wit: tuple[Source, ...]
    manifest: str
    code: bytes
    image: Image
    resources: tuple[Resource, ...] = ()
    arguments: bytes = b""
    calls: tuple[HostCall, ...] = field(default=())

    @property
    def code_digest(self) -> str:
        """SHA-256 of the module, in hexadecimal digits."""
        return hashlib.sha256(self.code).hexdigest()


# -------------------------------------------------------------------------------------------------------------- writing


def encode_record(record: CrashRecord) -> bytes:
    """Return a record as bytes; takes long: it is compressed."""
    image = record.image
    plain = {
        b"head": json.dumps(_head(record), sort_keys=True, default=str).encode(),
        b"wit ": json.dumps([[source.name, source.text] for source in record.wit]).encode(),
        b"mani": record.manifest.encode(),
        b"code": record.code,
        b"mem ": image.memory,
        b"stat": _encode_state(image),
        b"reso": _encode_all(record.resources, _encode_resource),
        b"args": record.arguments,
        b"call": _encode_all(record.calls, _encode_call),
    }
    made = bytearray(MAGIC + struct.pack("<I", VERSION))
    for tag in SECTIONS:
        stored = zlib.compress(plain[tag], 1)
        made += tag + struct.pack("<II", len(stored), len(plain[tag])) + stored
    digest = hashlib.sha256(made).digest()
    return bytes(made) + END + struct.pack("<II", len(digest), len(digest)) + digest


def _head(record: CrashRecord) -> dict[str, Any]:
    about = record.about
    values = {name: getattr(about, name) for name in About.__slots__}
    outcomes = {name: {"code": one.code, "text": one.text} for name, one in values.items() if isinstance(one, Outcome)}
    return values | outcomes | {"code_sha256": record.code_digest}


def _encode_state(image: Image) -> bytes:
    made = bytearray(struct.pack("<I", len(image.globals_)))
    for name, bits in image.globals_:
        put_text(made, name)
        made += struct.pack("<q", bits)
    made += struct.pack("<II", image.moved, len(image.flags)) + image.flags
    made += struct.pack("<I", len(image.slots))
    for generation, resource, own in image.slots:
        made += struct.pack("<Q?", generation, own)
        put_text(made, resource)
    for numbers in (image.free_slots, image.objects):
        made += struct.pack(f"<I{len(numbers)}I", len(numbers), *numbers)
    return bytes(made)


def _encode_all(items: tuple[T, ...], encode: Callable[[bytearray, T], None]) -> bytes:
    made = bytearray(struct.pack("<I", len(items)))
    for item in items:
        encode(made, item)
    return bytes(made)


def _encode_resource(made: bytearray, resource: Resource) -> None:
    put_text(made, resource.type)
    made += struct.pack("<Q?", resource.size, resource.content is not None)
    _put_bytes(made, resource.content or b"")


def _encode_call(made: bytearray, call: HostCall) -> None:
    made += struct.pack("<I?", call.import_, call.failure is not None)
    _put_bytes(made, call.arguments)
    _put_bytes(made, call.result)
    for text in call.failure or ():
        put_text(made, text)


def _put_bytes(made: bytearray, data: bytes) -> None:
    made += struct.pack("<I", len(data)) + data


# -------------------------------------------------------------------------------------------------------------- reading


def decode_record(data: bytes, name: str) -> CrashRecord:
    """Read a record.

    Args:
        data: The bytes of its file.
        name: What to call it in errors.

    Raises:
        CorruptRecord: It is none, or it is damaged: where, what was found, what was expected.
        FormatUnknown: Another version wrote it.
    """
    reader = ValueReader(data, f"crash record {name}")
    if data[: len(MAGIC)] != MAGIC:
        raise reader.failure(f"{data[: len(MAGIC)]!r}", f"{MAGIC!r}: this is no crash record")
    reader.take(len(MAGIC))
    version = reader.u32()
    if version != VERSION:
        raise FormatUnknown(f"crash record {name}: found version {version}, expected {VERSION}")
    stored = {tag: _take_section(reader, tag, bound) for tag, bound in SECTIONS.items()}
    _check_end(reader, data, len(MAGIC) + 4 + sum(12 + len(part) for part, _ in stored.values()))
    plain = {tag: _inflate(part, length, f"crash record {name}, {_tag(tag)}") for tag, (part, length) in stored.items()}
    return _record(plain, name)


def _take_section(reader: ValueReader, tag: bytes, bound: int) -> tuple[bytes, int]:
    found = reader.take(4)
    if found != tag:
        raise reader.failure(f"section {found!r}", f"section {tag!r}")
    stored, length = reader.u32(), reader.u32()
    if length > bound:
        raise reader.failure(f"{length} bytes of section {_tag(tag)}", f"at most {bound}")
    return reader.take(stored), length


def _check_end(reader: ValueReader, data: bytes, end: int) -> None:
    if reader.take(4) != END or (reader.u32(), reader.u32()) != (32, 32):
        raise reader.failure("no end", "the section 'end.' of 32 bytes")
    digest = reader.take(32)
    reader.finish()
    if digest != hashlib.sha256(data[:end]).digest():
        raise reader.failure("another checksum", "that of the bytes before it: the file is damaged")


def _inflate(stored: bytes, length: int, what: str) -> bytes:
    """Decompress, and no more than was said."""
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(stored, length + 1)
    except zlib.error as error:
        raise CorruptRecord(f"{what}: found no zlib stream ({error}), expected one") from None
    if len(plain) != length or machine.unconsumed_tail or machine.unused_data or not machine.eof:
        raise CorruptRecord(f"{what}: found {len(plain)} bytes or more in its stream, expected {length}")
    return plain


def _tag(tag: bytes) -> str:
    return f"section '{tag.decode().strip()}'"


def _record(plain: Mapping[bytes, bytes], name: str) -> CrashRecord:
    def part(tag: bytes) -> ValueReader:
        return ValueReader(plain[tag], f"crash record {name}, {_tag(tag)}")

    head = _json(plain[b"head"], part(b"head"))
    record = CrashRecord(
        about=_about(head, part(b"head")),
        wit=_wit(_json(plain[b"wit "], part(b"wit ")), part(b"wit ")),
        manifest=part(b"mani").take(len(plain[b"mani"])).decode("utf-8", "replace"),
        code=plain[b"code"],
        image=_image(part(b"stat"), plain[b"mem "]),
        resources=_decode_all(part(b"reso"), _resource),
        arguments=plain[b"args"],
        calls=_decode_all(part(b"call"), _call),
    )
    if head.get("code_sha256") != record.code_digest:
        raise part(b"code").failure("a module of another SHA-256", f"{head.get('code_sha256')}, which the head names")
    return record


def _json(data: bytes, where: ValueReader) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise where.failure("no JSON", "JSON") from None


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "closure": (int, type(None)),
    "quantum_ticks": (int,),
    "limits": (dict,),
    "grants": (dict,),
    "config": (dict,),
    "fault": (dict,),
    "again": (dict,),
    "backtrace": (list,),
    "calls_complete": (bool,),
}
"""Keys of the head that are no text."""


def _about(head: Any, where: ValueReader) -> About:
    if not isinstance(head, dict):
        raise where.failure("no object", "a JSON object")
    for key in About.__slots__:
        found = head.get(key, where)
        kinds = _KINDS.get(key, (str,))
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            shown = "nothing" if found is where else repr(found)[:60]
            raise where.failure(f"{shown} under {key!r}", " or ".join(kind.__name__ for kind in kinds))
    values = {key: head[key] for key in About.__slots__}
    values["fault"], values["again"] = (_outcome(head[key], key, where) for key in ("fault", "again"))
    values["backtrace"] = tuple(_frame(frame, where) for frame in head["backtrace"])
    if not all(isinstance(value, int) for value in head["limits"].values()):
        raise where.failure("a limit that is no integer", "integers under 'limits'")
    if not all(isinstance(value, str) for value in head["config"].values()):
        raise where.failure("a setting that is no text", "texts under 'config'")
    if not all(isinstance(value, dict) for value in head["grants"].values()):
        raise where.failure("a grant that is no object", "objects under 'grants'")
    if values["image"] not in ("before", "initialised"):
        raise where.failure(f"{values['image']!r} under 'image'", "'before' or 'initialised'")
    return About(**values)


def _outcome(found: Mapping[str, Any], key: str, where: ValueReader) -> Outcome:
    code, text = found.get("code"), found.get("text")
    if not isinstance(code, str) or not isinstance(text, str):
        raise where.failure(f"{found!r:.60} under {key!r}", "texts 'code' and 'text'")
    return Outcome(code, text)


def _frame(found: Any, where: ValueReader) -> tuple[str, int, int]:
    match found:
        case [str(module), int(function), int(offset)]:
            return module, function, offset
    raise where.failure(f"the frame {found!r:.60}", "[module, function, offset]")


def _wit(found: Any, where: ValueReader) -> tuple[Source, ...]:
    if not isinstance(found, list) or not all(
        isinstance(one, list) and len(one) == 2 and all(isinstance(text, str) for text in one) for one in found
    ):
        raise where.failure("something else", "a list of [name, text]")
    return tuple(Source(name, text) for name, text in found)


def _image(reader: ValueReader, memory: bytes) -> Image:
    globals_ = tuple((reader.text(), int(reader.number("<q"))) for _ in range(reader.count()))
    moved = reader.u32()
    flags = reader.take(reader.u32())
    slots = tuple(_slot(reader) for _ in range(reader.count()))
    free_slots, objects = (tuple(reader.u32() for _ in range(reader.count())) for _ in range(2))
    reader.finish()
    return Image(memory, globals_, moved, flags, slots, free_slots, objects)


def _slot(reader: ValueReader) -> tuple[int, str, bool]:
    generation, own = int(reader.number("<Q")), bool(reader.number("<?"))
    return generation, reader.text(), own


def _decode_all(reader: ValueReader, decode: Callable[[ValueReader], T]) -> tuple[T, ...]:
    made = tuple(decode(reader) for _ in range(reader.count()))
    reader.finish()
    return made


def _resource(reader: ValueReader) -> Resource:
    type_ = reader.text()
    size, readable = int(reader.number("<Q")), bool(reader.number("<?"))
    content = reader.take(reader.u32())
    return Resource(type_, size, content if readable else None)


def _call(reader: ValueReader) -> HostCall:
    import_, failed = reader.u32(), bool(reader.number("<?"))
    arguments = reader.take(reader.u32())
    result = reader.take(reader.u32())
    failure = (reader.text(), reader.text(), reader.text()) if failed else None
    return HostCall(import_, arguments, result, failure)
