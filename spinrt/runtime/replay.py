"""Replaying a crash record: the same code, state, arguments and answers, and what comes of it.

Nothing is asked of the machine: module, interfaces, limits and everything that the host said are in the record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spinrt._core import Call
from spinrt.errors import ConfigError, CorruptRecord, SpinError
from spinrt.runtime.capability import Grant
from spinrt.runtime.crash import CrashRecord, Outcome
from spinrt.runtime.domain import Domain
from spinrt.runtime.policy import Policy
from spinrt.runtime.rerun import Answers, Diverged, decode_all, function_of, run_once, write_state
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import LIMITS_HIGHEST, Limits, Manifest, read_limits
from spinrt.sandbox.symbols import Frame
from spinrt.sandbox.wit import Interfaces


@dataclass(frozen=True, slots=True)
class Asked:
    """One host call of the record, for people."""

    function: str
    arguments: tuple[Any, ...]
    failure: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to.

    Attributes:
        outcome: What it failed with now.
        same: Whether that is the fault of the record, at the same instruction where both tell.
        diverged: Whether it asked the host for something else than then.
        backtrace: Where it failed now, the innermost frame first.
        recorded_backtrace: Where it failed then.
        calls: Host calls of the record.
        asked: How many of these the replay made.
    """

    outcome: Outcome
    same: bool
    diverged: bool
    backtrace: tuple[Frame, ...]
    recorded_backtrace: tuple[Frame, ...]
    calls: tuple[Asked, ...]
    asked: int


def replay(record: CrashRecord, name: str) -> Replayed:
    """Run the call of a record again.

    Args:
        record: The record.
        name: What to call it in errors.

    Raises:
        CorruptRecord: It contradicts itself: the module does not fit its interfaces, the state not the module, or an
            argument not its type.
    """
    try:
        domain, extension = _domain(record)
        answers = Answers(extension, record.calls, record.resources)
        error = _run(record, domain, answers, f"crash record {name}")
        calls = tuple(_asked(record, extension, answers, f"crash record {name}"))
    except CorruptRecord:
        raise
    except SpinError as problem:
        raise CorruptRecord(f"crash record {name}: {problem}", hint=problem.hint) from problem
    if isinstance(error, CorruptRecord):
        raise error
    symbols = extension.fitting.symbols(domain.limits)
    found = tuple(symbols.frames(error.trace.frames())) if error is not None and error.trace is not None else ()
    recorded = tuple(symbols.frames(record.about.backtrace))
    outcome = Outcome.of(error)
    same = outcome.is_like(record.about.fault) and (not found or not recorded or found[0] == recorded[0])
    return Replayed(outcome, same, isinstance(error, Diverged), found, recorded, calls, answers.asked)


def _domain(record: CrashRecord) -> tuple[Domain, Extension]:
    about = record.about
    manifest = Manifest.parse(record.manifest, where="its manifest")
    extension = check_extension(manifest, record.code, interfaces=Interfaces.parse(record.wit))
    limits = read_limits(dict(about.limits), LIMITS_HIGHEST, _refuse_limit)
    grants = {id_: Grant(id_, tuple(map(str, given.get("functions", ())))) for id_, given in about.grants.items()}
    domain = Domain.create(extension, Policy(grants, limits, about.config))
    domain.limits = Limits(**{key: getattr(limits, key) for key in Limits.__slots__})
    return domain, extension


def _refuse_limit(key: str, found: object, expected: str) -> ConfigError:
    return ConfigError(f"limits{key}: found {found!r:.80}, expected {expected}")


def _run(record: CrashRecord, domain: Domain, answers: Answers, what: str) -> SpinError | None:
    about = record.about
    exported = domain.extension.exports.get(about.export)
    if exported is None:
        raise CorruptRecord(f"{what}: found the export {about.export!r}, expected one that its manifest promises")
    arguments = decode_all(exported.function, record.arguments, answers.find, f"{what}, section 'args'")
    instance = domain.double(answers.serve, initialised=False)
    resources = [type_ for _, type_, _ in record.image.slots if type_]
    if len(resources) != len(record.image.objects):
        raise CorruptRecord(f"{what}: found {len(record.image.objects)} objects for {len(resources)} handles")
    pairs = zip(record.image.objects, resources, strict=True)
    write_state(instance, record.image, [answers.find(number, type_) for number, type_ in pairs])
    return run_once(
        domain, instance, about.export, arguments, call=Call(about.event), quantum_ticks=max(0, about.quantum_ticks)
    )


def _asked(record: CrashRecord, extension: Extension, answers: Answers, what: str) -> Iterator[Asked]:
    for position, call in enumerate(record.calls):
        if call.import_ >= len(extension.imports):
            raise CorruptRecord(f"{what}: found import {call.import_}, expected one of {len(extension.imports)}")
        imported = extension.imports[call.import_]
        where = f"{what}, arguments of host call {position + 1}"
        arguments = decode_all(function_of(extension, imported), call.arguments, answers.find, where)
        failure = "" if call.failure is None else f"{call.failure[0]}: {call.failure[1]}"
        yield Asked(f"{imported.interface}#{imported.function}", arguments, failure)
