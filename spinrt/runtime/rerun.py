"""Running one handler once more, in an instance of its own: to record a fault, and to replay a record.

Both make an instance of the same code under the same limits, in a store of its own, and put the state into it that
the handler met. *Recording* lets real host functions answer and writes down what they were asked and said; what they
promise is taken back. *Replaying* answers from what was written down; who asks for something else has diverged.

Functions that the core serves by itself from what the engine knows (`spinrt:extension/control`) run as they are in
both.

Source: docs/design/supervisor.md, "Crash records".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from spinrt._core import (
    Call,
    Capability,
    ControlFunction,
    Export,
    Instance,
    list_objects,
    read_handles,
    read_image,
    write_handles,
    write_image,
)
from spinrt.errors import CorruptRecord, SpinError, StateError, UsageError, error_of
from spinrt.runtime.capability import Closure
from spinrt.runtime.crash import CONTENT_BYTES_MAX, HostCall, Image, Resource
from spinrt.runtime.linker import Bound, BoundDrop, BoundFunction
from spinrt.runtime.source import CombinedDomain
from spinrt.sandbox.loader import Extension, ImportedFunction
from spinrt.sandbox.types import Function
from spinrt.sandbox.values import ValueReader, decode, encode

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain

CONTROL: Final = "spinrt:extension/control@1.0.0"
_NOBODY: Final = CombinedDomain("a crash record", ())
CALLS_MAX: Final = 100_000
CALL_BYTES_MAX: Final = 16 << 20
"""Of arguments and results together: a handler that calls more is recorded as far as this."""


@runtime_checkable
class Readable(Protocol):
    """A resource whose content can be recorded, such as a message."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...


class Numbers:
    """Numbers for the resources of one run, in the order in which they are first seen."""

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self._types: list[str] = []
        self._numbers: dict[int, int] = {}

    def number(self, target: Any, type_: str) -> int:
        """Return the number of a resource; `_objects` keeps it alive, so that its identity stays its own."""
        found = self._numbers.get(id(target))
        if found is None:
            found = self._numbers[id(target)] = len(self._objects)
            self._objects.append(target)
            self._types.append(type_)
        return found

    def resources(self) -> tuple[Resource, ...]:
        """Return them all, with what can be read of them."""
        return tuple(_describe(target, type_) for target, type_ in zip(self._objects, self._types, strict=True))


def _describe(target: Any, type_: str) -> Resource:
    try:
        found = target.use() if isinstance(target, Capability) else target
        if isinstance(found, Readable):
            return Resource(type_, found.size, found.read(0, min(found.size, CONTENT_BYTES_MAX)))
    except Exception:  # what cannot be read is left out: the record is of the fault
        return Resource(type_)
    return Resource(type_)


class Recorder:
    """Stands in front of real host functions and writes down what passes.

    Attributes:
        calls: So far.
        complete: Whether that is all.
    """

    def __init__(self, extension: Extension, numbers: Numbers) -> None:
        self.calls: list[HostCall] = []
        self.complete = True
        self._extension = extension
        self._numbers = numbers
        self._bytes = 0

    def begin(self) -> None:
        """What passed so far belongs to its initialisation, and is not recorded."""
        self.calls.clear()
        self.complete, self._bytes = True, 0

    def wrap(self, position: int, bound: Bound | None) -> Bound:
        """Return what serves an import while it is recorded; without its rate, as nothing of it will happen."""
        assert bound is not None  # it was running
        if not isinstance(bound, BoundFunction) or isinstance(bound.closure, ControlFunction):
            return bound
        function = function_of(self._extension, self._extension.imports[position])
        return BoundFunction(bound.source, bound.plan, self._recording(position, function, bound.closure))

    def _recording(self, position: int, function: Function, closure: Closure) -> Closure:
        def ask(call: Call | None, *arguments: Any) -> Any:
            asked = encode_all(function, arguments, self._numbers)
            try:
                answer = closure(call, *arguments)
            except SpinError as error:
                self._note(HostCall(position, asked, failure=(error.code, str(error), error.hint)))
                raise
            said = b"" if function.result is None else encode(function.result, answer, self._numbers.number)
            self._note(HostCall(position, asked, said))
            return answer

        return ask

    def _note(self, call: HostCall) -> None:
        self._bytes += len(call.arguments) + len(call.result)
        if len(self.calls) >= CALLS_MAX or self._bytes > CALL_BYTES_MAX:
            self.complete = False
        if self.complete:
            self.calls.append(call)


def _cancel(call: Call | None) -> int:
    """Where the core leaves ``control`` to Python, no handler runs."""
    return 0


class Diverged(UsageError):
    """The replay asked for something else than the run that was recorded."""

    code = "crash.diverged"


class Answers:
    """Answers host calls from a record.

    Attributes:
        asked: How many calls were answered.
    """

    def __init__(self, extension: Extension, calls: Sequence[HostCall], resources: Sequence[Resource]) -> None:
        self.asked = 0
        self._extension = extension
        self._calls = calls
        self.numbers = Numbers()
        self._objects = [StandIn(number, resource.type) for number, resource in enumerate(resources)]
        for stand_in in self._objects:
            self.numbers.number(stand_in, stand_in.type)

    def find(self, number: int, type_: str) -> StandIn:
        """Return what stands for a resource of the record."""
        if number >= len(self._objects) or self._objects[number].type != type_:
            raise CorruptRecord(f"crash record: found resource {number} of type {type_}, expected one that is there")
        return self._objects[number]

    def serve(self, position: int, bound: Bound | None) -> Bound:
        """Return what serves an import while it is replayed."""
        imported = self._extension.imports[position]
        if imported.plan is None:
            return BoundDrop(_NOBODY, imported.resource)
        if imported.interface == CONTROL:
            return BoundFunction(_NOBODY, imported.plan, ControlFunction(imported.function, _cancel))
        return BoundFunction(_NOBODY, imported.plan, self._closure(position, imported))

    def _closure(self, position: int, imported: ImportedFunction) -> Closure:
        function = function_of(self._extension, imported)

        def answer(call: Call | None, *arguments: Any) -> Any:
            return self._answer(position, f"{imported.interface}#{imported.function}", function, arguments)

        return answer

    def _answer(self, position: int, name: str, function: Function, arguments: tuple[Any, ...]) -> Any:
        if self.asked >= len(self._calls):
            raise Diverged(f"replay: found host call {self.asked + 1}, {name}, expected {len(self._calls)} calls")
        recorded = self._calls[self.asked]
        self.asked += 1
        if recorded.import_ != position or recorded.arguments != encode_all(function, arguments, self.numbers):
            raise Diverged(f"replay: found host call {self.asked}, {name}, expected that of the record: it differs")
        if recorded.failure is not None:
            raise error_of(*recorded.failure)
        if function.result is None:
            return None
        reader = ValueReader(recorded.result, f"crash record, answer of host call {self.asked}")
        answer = decode(function.result, reader, self.find)
        reader.finish()
        return answer


@dataclass(frozen=True, slots=True)
class StandIn:
    """Stands for a resource of the record."""

    number: int
    type: str


def function_of(extension: Extension, imported: ImportedFunction) -> Function:
    """Return the type of an import."""
    return extension.interfaces.get(imported.interface).functions[imported.function]


def encode_all(function: Function, arguments: Sequence[Any], numbers: Numbers) -> bytes:
    """Return the arguments of a function as bytes, one behind the other."""
    pairs = zip(function.parameters, arguments, strict=True)
    return b"".join(encode(parameter.type, value, numbers.number) for parameter, value in pairs)


def decode_all(function: Function, data: bytes, find: Callable[[int, str], Any], what: str) -> tuple[Any, ...]:
    """Read the arguments of a function.

    Raises:
        CorruptRecord: They are none.
    """
    reader = ValueReader(data, what)
    values = tuple(decode(parameter.type, reader, find) for parameter in function.parameters)
    reader.finish()
    return values


# --------------------------------------------------------------------------------------------------------------- state


def read_state(instance: Instance, numbers: Numbers) -> tuple[Image, list[Any]]:
    """Return the state of an instance at rest, and what its handles name.

    Raises:
        StateError: It is gone.
    """
    memory, globals_, moved, flags = read_image(instance)
    slots, free_slots = read_handles(instance)
    objects = list_objects(instance)
    resources = [resource for _, resource, _ in slots if resource]
    named = tuple(numbers.number(target, type_) for target, type_ in zip(objects, resources, strict=True))
    return Image(memory, tuple(globals_), moved, flags, tuple(slots), tuple(free_slots), named), objects


def write_state(instance: Instance, image: Image, objects: list[Any]) -> None:
    """Put a state into a fresh instance of the same code.

    Raises:
        UsageError: It is not of this code, or does not fit into the limits.
    """
    write_image(instance, image.memory, list(image.globals_), image.moved, image.flags)
    write_handles(instance, list(image.slots), list(image.free_slots), objects)


def run_once(
    domain: Domain,
    instance: Instance,
    export: str,
    arguments: tuple[Any, ...],
    *,
    call: Call,
    quantum_ticks: int = 0,
) -> SpinError | None:
    """Run a handler in an instance of its own and take back what it did to others; what it failed with.

    Args:
        domain: Whose handler it is.
        instance: Made by `Domain.double`.
        export: Which.
        arguments: The closure among them, where there is one.
        call: One of its own, or part of the one that the handler failed in.
        quantum_ticks: Of an ephemeral one.
    """
    exported = domain.extension.exports.get(export)
    if exported is None:
        raise StateError(f"extension {domain.name}: found no export {export}, expected one")
    function = Export(instance, export, exported.plan)
    room, call.journal.room, call.domain = call.journal.room, domain.limits.effects, domain
    try:
        if quantum_ticks:
            function.call_within(quantum_ticks, call, *arguments)
        else:
            function(call, *arguments)
    except SpinError as error:
        return error
    finally:
        call.roll_back()
        call.journal.room = room
    return None
