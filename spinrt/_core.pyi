"""Types of the compiled core; see cython_core/."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias, TypeVar, final

_T = TypeVar("_T")
_Body: TypeAlias = tuple[bytes, int, tuple[tuple[int, int, int], ...], bytes]

SUPPORTED_MAJORS: tuple[int, ...]
TICK_NS: int

@final
class RecordWriter:
    def __init__(self, version: int) -> None: ...
    def u8(self, value: int) -> None: ...
    def u32(self, value: int) -> None: ...
    def u64(self, value: int) -> None: ...
    def i32(self, value: int) -> None: ...
    def i64(self, value: int) -> None: ...
    def blob(self, value: bytes) -> None: ...
    def text(self, value: str) -> None: ...
    def all_texts(self, values: tuple[str, ...]) -> None: ...
    def texts(self, values: tuple[str, ...]) -> None: ...
    def numbers(self, values: Collection[int]) -> None: ...
    def items(self, values: Collection[_T], write: Callable[[_T], None]) -> None: ...
    def option(self, value: _T | None, write: Callable[[_T], None]) -> None: ...
    def body(self, body: _Body) -> None: ...
    def deliver(self, change: Any) -> None: ...
    def kv(self, write: Any) -> None: ...
    def take(self) -> bytes: ...

def encode_deliver(version: int, change: Any) -> bytes: ...
def encode_body(body: _Body) -> bytearray: ...
def count_body(encoded: bytes | bytearray, refs: dict[int, int], sizes: dict[int, int], change: int) -> None: ...
def stored_bytes(body: _Body) -> int: ...
def encode_placed(placed: Collection[tuple[str, str, int, int]], queued: Collection[int]) -> bytearray: ...

class _Segment(Protocol):
    seed: int

@final
class LogEntry:
    segment: Any
    position: int
    header: bytes
    body: bytes
    time_ns: int
    kind: int
    length: int

@final
class LogBuffer:
    end: int
    chain: bytes
    waiting_bytes: int
    def __init__(self, end: int, chain: bytes) -> None: ...
    def append(self, segment: _Segment, kind: int, body: bytes, time_ns: int, digest: bytes, durable: int) -> int: ...
    def get(self, position: int) -> LogEntry | None: ...
    def take(self) -> list[LogEntry]: ...
    def written(self, entries: list[LogEntry]) -> None: ...
    def give_up(self, chain: bytes) -> None: ...

def record_part(data: bytes, position: int, seed: int, offset: int, length: int) -> bytes | None: ...

@final
class HintTable:
    memory: bytearray
    count: int
    def __init__(self, memory: bytearray, count: int = 0) -> None: ...
    def find(self, digest: bytes) -> int | None: ...
    def put(self, digest: bytes, position: int) -> None: ...
    def wider(self) -> HintTable: ...

def record_frame(data: bytes, position: int, seed: int) -> bytes | None: ...

@final
class LogWriter:
    descriptor: int
    def __init__(self) -> None: ...
    def serve(self) -> bool: ...
    def begin(self, file: int, buffer: LogBuffer) -> list[LogEntry]: ...
    def wait(self) -> tuple[int, int]: ...
    def acknowledge(self) -> None: ...
    def call(self) -> None: ...
    def end(self) -> None: ...

@final
class DataDecoder:
    finished: bool
    bare: bool
    rest: int
    def __init__(self, *, normalise: bool) -> None: ...
    def feed(self, data: bytes, start: int = 0) -> bytes: ...

@final
class HopCounter:
    hops: int
    complete: bool
    def feed(self, content: bytes) -> None: ...

class Fault(Enum):
    TOO_LARGE = 1
    BARE_NEWLINE = 2
    LOOP = 3
    STORAGE = 4

@final
class Transfer:
    size: int
    bare: bool
    hopeless: bool
    def __init__(self, sink: _Sink | None, limits: Any) -> None: ...
    def write(self, content: bytes) -> None: ...
    def fault(self) -> Fault | None: ...
    def abort(self) -> None: ...
    def release(self) -> Any: ...

class _Sink(Protocol):
    def write(self, data: bytes) -> None: ...
    def abort(self) -> None: ...

class Phase(Enum):
    COMMAND = 1
    CONTENT = 2
    RECEIVER = 3
    TLS = 4
    CLOSED = 5

REPLY_LINES_MAX: int

@final
class Reply:
    code: int
    enhanced: str
    text: str
    wire: bytes
    def __init__(self, code: int, enhanced: str, text: str) -> None: ...

class SmtpStream:
    phase: Phase
    steps: int
    last: Any
    buffered: int
    _input: bytes
    _position: int
    _output: list[bytes]
    _table: Mapping[Any, Mapping[bytes, tuple[Callable[..., Reply | None], Any]]]
    _state: Any
    _exchange: Any
    _steps_before: int
    _transfer: Transfer | None
    _decoder: DataDecoder | None
    _chunk: Any
    _recipient_tried: bool
    _ticket: int
    session: Any
    def __init__(self, session: Any, greeting: Reply, limits: Any, on_output: Callable[[], None]) -> None: ...
    def receive(self, data: bytes) -> None: ...
    def take_output(self) -> bytes: ...
    def lost(self) -> None: ...
    def _take_chunk(self, chunk: Any) -> None: ...
    def _end_message(self, transfer: Transfer) -> None: ...
    def _give_up_message(self) -> None: ...
    def _begin_data(self, sink: _Sink) -> None: ...
    def _reset(self, state: Any) -> None: ...
    def _take_response(self, line: bytes, exchange: Any) -> None: ...
    def _misplaced(self, verb: bytes) -> None: ...
    def _refuse_line(self, too_long: bool) -> None: ...
    def _say(self, answer: Any) -> None: ...
    def _refuse_storage(self) -> None: ...
    def _overstep(self) -> None: ...
    def _fail(self) -> None: ...
    def _close(self, last: Reply | None) -> None: ...
    def _resume(self) -> None: ...

class SmtpLink:
    deadline: float
    _engine: Any
    _transport: Any
    _paused: bool
    _choked: bool
    _peer_done: bool
    _upgrade: Any
    def __init__(self, clock: Callable[[], float], limits: Any) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def _flush(self) -> None: ...
    def _receive_early(self, data: bytes) -> None: ...
    def _hang_up(self) -> None: ...
    def _start_tls(self) -> None: ...
    def _adjust_reading(self) -> None: ...

@final
class Module:
    imports: tuple[tuple[str, str, str, str], ...]
    exports: dict[str, tuple[str, str]]
    name: str
    def __init__(self, code: bytes, name: str = "module", *, compiled: bool = False) -> None: ...
    def serialized(self) -> bytes: ...

@final
class Revocation:
    by: str
    reason: str
    time_ns: int
    def __init__(self, by: str, reason: str, time_ns: int) -> None: ...

@final
class Capability:
    parent: Capability | None
    depth: int
    rights: frozenset[str] | None
    granter: str
    holder: str
    grant: Any
    revocation: Revocation | None
    def __init__(
        self,
        target: object,
        resource: str,
        rights: Iterable[str] | None = None,
        *,
        granter: str = "host",
        grant: object = None,
    ) -> None: ...
    @property
    def resource(self) -> str: ...
    @property
    def revoked(self) -> Revocation | None: ...
    def use(self, right: str | None = None) -> Any: ...
    def attenuate(self, rights: Iterable[str]) -> Capability: ...
    def delegate(self, to: str, *, rights: Iterable[str] | None = None, grant: object = None) -> Capability: ...
    def revoke(self, by: str, reason: str, *, time_ns: int | None = None) -> None: ...
    def chain(self) -> tuple[Capability, ...]: ...

@final
class ExternalReference:
    @property
    def resource(self) -> str: ...

@final
class HandleTable:
    live: int
    handles_max: int
    def __init__(self, handles_max: int) -> None: ...

class Wish:
    def apply(self) -> None: ...

@final
class Journal:
    effects: list[Any]
    room: int
    def append(self, effect: object) -> None: ...
    def apply(self) -> None: ...
    def roll_back(self, mark: int) -> int: ...
    def __len__(self) -> int: ...

@final
class Call:
    event: str
    context: Any
    journal: Journal
    domain: Any
    cancelled: bool
    @property
    def effects(self) -> list[Any]: ...
    def __init__(self, event: str = "", context: object = None, within: Call | None = None) -> None: ...
    def savepoint(self) -> tuple[int, int]: ...
    def roll_back(self, savepoint: tuple[int, int] | None = None) -> None: ...
    def keep(self) -> None: ...
    def commit(self) -> None: ...
    def cancel(self) -> None: ...

@final
class Touches:
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...

def running_call() -> Call | None: ...

class Plan:
    size: int
    align: int
    flat: str

@final
class ScalarPlan(Plan):
    def __init__(self, name: str) -> None: ...

class SequencePlan(Plan):
    def __init__(self) -> None: ...

@final
class StringPlan(SequencePlan): ...

@final
class BytesPlan(SequencePlan): ...

@final
class ListPlan(SequencePlan):
    def __init__(self, element: Plan) -> None: ...

@final
class RecordPlan(Plan):
    def __init__(self, name: str, fields: tuple[Plan, ...], kind: type[tuple[Any, ...]] = ...) -> None: ...

class VariantPlan(Plan):
    def __init__(self, name: str, names: tuple[str, ...], payloads: tuple[Plan | None, ...]) -> None: ...

@final
class EnumPlan(VariantPlan):
    def __init__(self, name: str, names: tuple[str, ...]) -> None: ...

@final
class OptionPlan(VariantPlan):
    def __init__(self, element: Plan) -> None: ...

@final
class ResultPlan(VariantPlan):
    def __init__(self, ok_plan: Plan | None, err_plan: Plan | None, ok: type, err: type) -> None: ...

@final
class FlagsPlan(Plan):
    def __init__(self, name: str, names: tuple[str, ...]) -> None: ...

@final
class HandlePlan(Plan):
    def __init__(self, resource: str, own: bool, right: str = "") -> None: ...

@final
class FunctionPlan:
    name: str
    import_signature: str
    export_signature: str
    is_flat: bool
    def __init__(
        self, name: str, parameters: tuple[Plan, ...], result: Plan | None, names: tuple[str, ...] = ()
    ) -> None: ...
    def check_arguments(self, arguments: tuple[Any, ...]) -> None: ...
    def check_result(self, answer: Any) -> None: ...

class NativeFunction:
    signature: str
    closure: Callable[..., Any]
    def __call__(self, *arguments: Any) -> Any: ...

@final
class ControlFunction(NativeFunction):
    def __init__(self, name: str, closure: Callable[..., Any]) -> None: ...

@final
class LentMessage:
    size: int
    lent: bool
    section: bytes
    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None: ...
    def take_back(self) -> None: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def header_count(self) -> int: ...
    def header_name(self, position: int) -> str | None: ...
    def header(self, name: str, nth: int) -> bytes | None: ...
    def values(self, name: str) -> list[bytes]: ...

@final
class HeaderFunction(NativeFunction):
    def __init__(self, resource: str, closure: Callable[..., Any]) -> None: ...

@final
class SizeFunction(NativeFunction):
    def __init__(self, resource: str, closure: Callable[..., Any]) -> None: ...

@final
class BodyOffsetFunction(NativeFunction):
    def __init__(self, resource: str, closure: Callable[..., Any]) -> None: ...

@final
class ReadFunction(NativeFunction):
    def __init__(self, resource: str, bytes_max: int, closure: Callable[..., Any]) -> None: ...

@final
class DeliveryContext:
    delivery_id: str
    protocol: str
    sender: str
    message: LentMessage
    recipient: Any
    def __init__(self, delivery_id: str, protocol: str, sender: str, message: LentMessage) -> None: ...

@final
class Tag(Wish):
    extension: str
    key: str
    value: bytes
    def __init__(self, extension: str, key: str, value: bytes) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class AddHeader(Wish):
    extension: str
    name: str
    line: bytes
    def __init__(self, extension: str, name: str, line: bytes) -> None: ...
    def decide(self, decision: Any) -> None: ...
    def describe(self) -> str: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class KeptTexts:
    def __init__(self, prepare: Callable[[str], object], kind: type) -> None: ...

@final
class PromiseFunction(NativeFunction):
    def __init__(self, prepare: Callable[[str], object], closure: Callable[..., Any]) -> None: ...

@final
class TagFunction(NativeFunction):
    def __init__(
        self,
        extension: str,
        value_bytes_max: int,
        prepare: Callable[[str], object],
        closure: Callable[..., Any],
    ) -> None: ...

@final
class AddHeaderFunction(NativeFunction):
    def __init__(
        self,
        extension: str,
        value_bytes_max: int,
        prepare: Callable[[str], object],
        closure: Callable[..., Any],
    ) -> None: ...

@final
class LogRecord:
    extension: str
    time_ns: int
    level: str
    event: str
    fields: tuple[tuple[str, str], ...]
    def __init__(
        self,
        extension: str,
        time_ns: int,
        level: str,
        event: str,
        fields: tuple[tuple[str, str], ...],
        sink: Callable[[LogRecord], None] | None = None,
    ) -> None: ...
    def apply(self) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

@final
class LogFunction(NativeFunction):
    def __init__(
        self,
        extension: str,
        levels: tuple[str, ...],
        written: frozenset[str],
        sink: Callable[[LogRecord], None],
        now: Callable[[], int],
        closure: Callable[..., Any],
    ) -> None: ...

@final
class InstanceLimits:
    memory_bytes: int
    table_entries: int
    handles: int
    deadline_ticks: int
    effects: int
    host_calls: int
    lift_bytes: int
    def __init__(
        self,
        *,
        memory_bytes: int,
        table_entries: int,
        handles: int,
        deadline_ticks: int,
        effects: int,
        host_calls: int,
        lift_bytes: int,
    ) -> None: ...

class _MonotonicClock(Protocol):
    def monotonic_s(self) -> float: ...

@final
class Rate:
    per_minute: int
    def __init__(self, per_minute: int, clock: _MonotonicClock) -> None: ...
    @property
    def left(self) -> int: ...
    def take(self) -> bool: ...

@final
class Meter:
    def __init__(self, rate: Rate, extension: str, function: str) -> None: ...
    def __call__(self) -> None: ...

@final
class HostFunction:
    def __init__(
        self,
        plan: FunctionPlan,
        closure: Callable[..., Any],
        meter: Callable[[], None] | None = None,
        on_error: Callable[[Any], None] | None = None,
    ) -> None: ...

@final
class DropFunction:
    def __init__(self, resource: str) -> None: ...

@final
class Instance:
    failures: int
    taken_back: bool
    broken: bool
    busy: bool
    memory_size: int
    handle_count: int
    store: Store
    linked: tuple[Instance, ...]
    module: Module
    name: str
    limits: InstanceLimits
    def __init__(
        self,
        module: Module,
        imports: tuple[HostFunction | DropFunction | Export, ...],
        limits: InstanceLimits,
        name: str,
        store: Store | None = None,
        *,
        taken_back: bool = False,
    ) -> None: ...
    def close(self) -> None: ...
    def kill(self, death: BaseException) -> None: ...
    @property
    def stale(self) -> bool: ...
    quarantined: bool
    on_needed: Callable[[], None] | None
    def relink(self, imports: tuple[HostFunction | DropFunction | Export, ...]) -> None: ...

@final
class Store:
    live: int
    dead: int
    dead_bytes: int
    generation: int
    running: bool
    on_idle: Callable[[], None] | None
    def __init__(self, memory_bytes: int = 0, table_entries: int = 0) -> None: ...
    def collect(self) -> int: ...
    def wake_when_idle(self) -> None: ...

@final
class Trace:
    def frames(self) -> list[tuple[str, int, int]]: ...

STUB_NAME: str

def read_image(guest: Instance) -> tuple[bytes, list[tuple[str, int]], int, bytes]: ...
def write_image(guest: Instance, memory: bytes, globals_: list[tuple[str, int]], moved: int, flags: bytes) -> None: ...
def read_handles(guest: Instance) -> tuple[list[tuple[int, str, bool]], list[int]]: ...
def write_handles(
    guest: Instance, slots: list[tuple[int, str, bool]], free_slots: list[int], objects: list[Any]
) -> None: ...
def list_objects(guest: Instance) -> list[Any]: ...

START_EXPORT: str
GLOBAL_EXPORT: str

@final
class Export:
    guest: Instance
    name: str
    plan: FunctionPlan
    def __init__(self, guest: Instance, name: str, plan: FunctionPlan) -> None: ...
    def rebind(self, guest: Instance) -> None: ...
    def __call__(self, call: Call | None, *arguments: Any) -> Any: ...
    def call_within(self, quantum_ticks: int, call: Call | None, *arguments: Any) -> Any: ...

@final
class Table:
    entries: tuple[Entry, ...]
    def __init__(self, entries: Sequence[Entry] = ()) -> None: ...
    def __len__(self) -> int: ...
    def append(self, entry: Entry) -> Table: ...
    def retire(self) -> None: ...
    def walk(self, call: Call, arguments: tuple[Any, ...], on_fault: Callable[[Any, Any], None]) -> list[Any]: ...

NO_CLOSURE: Any

class Guard: ...

class FieldGuard(Guard):
    path: tuple[int, ...]

@final
class EqualGuard(FieldGuard):
    value: Any
    def __init__(self, path: tuple[int, ...], value: object) -> None: ...

@final
class RangeGuard(FieldGuard):
    low: Any
    high: Any
    def __init__(self, path: tuple[int, ...], low: object, high: object) -> None: ...

@final
class PrefixGuard(FieldGuard):
    prefix: Any
    def __init__(self, path: tuple[int, ...], prefix: str | bytes) -> None: ...

@final
class CallGuard(Guard):
    handler: Any
    domain: Any
    closure: Any
    def __init__(
        self,
        handler: Export | Callable[..., object],
        domain: object = None,
        closure: object = ...,
    ) -> None: ...

@final
class GuardIndex:
    path: tuple[int, ...]
    def __init__(self, path: tuple[int, ...]) -> None: ...

@final
class Tally:
    faults: int
    times: deque[float]
    unsaid: int
    line_at_s: float
    watched: bool
    @property
    def by_code(self) -> dict[str, int]: ...
    def __init__(
        self,
        kept: int,
        times: deque[float],
        now: Callable[[], float],
        *,
        budget: int,
        window_s: float,
        recorded: bool,
    ) -> None: ...
    def last(self) -> list[tuple[Any, ...]]: ...
    def note(
        self, at_s: float, event: str, code: str, text: str, hint: str, arguments: object, trace: object
    ) -> None: ...

@final
class Entry:
    handler: Any
    domain: Any
    closure: Any
    enqueue: Any
    guards: tuple[EqualGuard | RangeGuard | PrefixGuard | CallGuard, ...]
    effects_max: int
    quantum_ticks: int
    filters: bool
    cancels: bool
    raises: int
    guarded: int
    faults: int
    ended: int
    def __init__(
        self,
        handler: Export | Callable[..., Any],
        domain: object = None,
        effects_max: int = ...,
        *,
        closure: object = ...,
        guards: tuple[EqualGuard | RangeGuard | PrefixGuard | CallGuard, ...] = (),
        filters: bool = False,
        cancels: bool = False,
        enqueue: Callable[[Call, Entry, tuple[Any, ...]], object] | None = None,
        quantum_ticks: int = 0,
        tally: Tally | None = None,
    ) -> None: ...
    def latency(self) -> list[tuple[int, int]]: ...

@final
class Raises:
    depth: int
    waiting: Any
    on_idle: Any
    def __init__(self, waiting: Any, on_idle: Callable[[], None]) -> None: ...
    def end(self) -> int: ...

@final
class Dispatcher:
    name: str
    plan: FunctionPlan
    table: Table | None
    fold: Callable[[list[Any]], Any] | None
    plain: bool
    on_fault: Any
    on_nothing: Any
    raise_slowly: Any
    long: bool
    tier_max: int
    def __init__(
        self,
        name: str,
        plan: FunctionPlan,
        *,
        on_fault: Callable[[Any, Any], None],
        on_nothing: Callable[[], Any],
        raise_slowly: Callable[..., Any],
        raises: Raises,
        skips: bool = False,
    ) -> None: ...
    def walk(self, call: Call, arguments: tuple[Any, ...]) -> list[Any]: ...
    raise_: Callable[..., Any]

def externalize(guest: Instance, target: object, resource: str) -> ExternalReference: ...
def internalize(guest: Instance, reference: ExternalReference) -> Any: ...
def withdraw(guest: Instance, reference: ExternalReference) -> None: ...

@final
class GuestProfile:
    samples: int
    def __init__(self, store: Store, name: str, modules: tuple[tuple[str, Module], ...]) -> None: ...
    def finish(self) -> bytes: ...

def list_handles(guest: Instance) -> list[tuple[int, str, bool, int, Any]]: ...
def effects_of(effects: list[Any], kind: type[_T]) -> tuple[_T, ...]: ...
def tags_of(effects: list[Any]) -> tuple[tuple[str, str, bytes], ...]: ...
def live_handles(guest: Instance) -> int: ...
def peek(guest: Instance, pointer: int, length: int) -> bytes: ...

COUNTDOWN_NEVER: int

@final
class Witness:
    def __init__(self, guest: Instance) -> None: ...
    def difference(self) -> str | None: ...
    def rewind(self) -> None: ...

def has_log(guest: Instance) -> bool: ...
def set_countdown(guest: Instance, count: int) -> None: ...
def countdown(guest: Instance) -> int: ...
def log_records(guest: Instance) -> int: ...
def shorten_log(guest: Instance, records: int) -> int: ...
def restore_log(guest: Instance, start: int) -> None: ...
def make_late(guest: Instance) -> None: ...
def run_late(guest: Instance, late: bool) -> None: ...
def write_out(descriptor: int, offset: int, length: int, wait: bool) -> None: ...
def take_short_turns(turn_ns: int) -> None: ...
def struct_sizes() -> dict[str, int]: ...
def time_engine_call(export: Export, arguments: tuple[int, ...], rounds: int, *, copied: bool = False) -> int: ...
def time_indirect_call(rounds: int) -> int: ...
def stub_code(signature: str) -> bytes: ...
def time_raise(event: Dispatcher, arguments: tuple[int, ...], rounds: int) -> int: ...
def time_raises(event: Dispatcher, given: tuple[tuple[int, ...], ...], rounds: int) -> int: ...

INSTRUCTION_SHAPES: tuple[str, ...]
INSTRUMENT_ACTIONS: tuple[str, ...]
INSTRUMENT_GLOBALS: tuple[str, ...]
INSTRUMENT_VALUES: dict[str, int]

@final
class BodyRewriter:
    global_sets: list[int]
    first: dict[str, tuple[int, int]]
    dropped_data: set[int]
    dropped_elements: set[int]
    written_tables: set[int]
    def __init__(
        self,
        code: bytes,
        name: str,
        opcodes: bytes,
        types: bytes,
        bodies: bytes,
        counts: tuple[int, int, int, int, int],
        refusal: Callable[[int], str],
    ) -> None: ...
    def set_plan(
        self,
        *,
        undo: int,
        dead_below: int,
        moved: int,
        helpers: tuple[int, int, int, int],
        globals_: bytes,
        tables: bytes,
        data: bytes,
        elements: bytes,
        signatures: bytes,
    ) -> None: ...
    def rewrite(self) -> bytes: ...
    def original(self, place: int, offset: int) -> int: ...
