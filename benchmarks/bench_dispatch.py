"""What a raise costs: beside a call of the machine, of Python and of the engine, and beside others that dispatch.

One run measures everything in interleaved rounds, with deadlines on. docs/benchmarks.md says what each row and target
means. A peer that is not installed leaves its target without a value.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from benchmarks.dispatch import crossings, installs, peers, raises
from benchmarks.dispatch.fleet import ARGUMENTS, NONE, ONE, Fleet, Shape
from benchmarks.dispatch.installs import INSTALL
from benchmarks.dispatch.peers import EXTISM, LIST, PLUGGY, WASMTIME_PY
from benchmarks.dispatch.raises import ENGINE, FROM_CYTHON, FROM_PYTHON, PYTHON
from benchmarks.harness import Options, Result, Row, Target, compare, main, progress, ratio
from benchmarks.timing import Subject, key_of, one_run

Found: TypeAlias = Mapping[str, Sequence[float]]
"""`Subject.key` → nanoseconds of each round."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything; targets speak of the last counts."""

    handlers: tuple[int, ...] = (1, 5, 10, 50, 128)
    guarded: int = 1000
    bindings: tuple[int, ...] = (1, 100, 10_000)
    run_ns: int = 20_000_000
    rounds: int = 21


NOTES = (
    "Each handler is in an instance and a domain of its own; of one module, but for rows with `modules`.",
    "Deadlines are on. Targets take one argument, no guard and one handler where they say nothing else.",
)
QUICK = Scale(run_ns=4_000_000, rounds=9)


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale."""
    return measure(QUICK if options.quick else Scale())


def measure(scale: Scale) -> Result:
    """Make the extensions, run every subject for about ``run_ns`` in each of so many rounds.

    Handlers with code of their own come last, in rounds of their own: many modules in the process make Extism slower.
    """
    shapes = raises.shapes(scale.handlers, scale.guarded)
    progress(f"dispatch: {scale.guarded} extensions")
    fleet = Fleet([*shapes, installs.EMPTY])
    subjects = [
        *raises.subjects(fleet, shapes),
        *installs.subjects(fleet, scale.bindings),
        *crossings.subjects(),
        *peers.subjects(scale.handlers),
    ]
    progress(f"dispatch: {len(subjects)} subjects, {scale.rounds} rounds")
    found = _compare(subjects, scale)
    progress(f"dispatch: {scale.handlers[-1]} modules, {scale.rounds} rounds")
    own_code = raises.own_code_subjects(scale.handlers)
    return report(scale, [*subjects, *own_code], found | _compare(own_code, scale))


def _compare(subjects: Sequence[Subject], scale: Scale) -> dict[str, list[float]]:
    return compare({subject.key: one_run(subject, scale.run_ns) for subject in subjects}, scale.rounds)


def report(scale: Scale, subjects: Sequence[Subject], found: Found) -> Result:
    """Put rows, ratios of the same rounds, and targets together."""
    derived = Derived(scale, found)
    rows = [Row.of(subject.name, found[subject.key], "ns", subject.params) for subject in subjects]
    return Result([*rows, *derived.rows()], derived.targets(), list(NOTES))


@dataclass(frozen=True, slots=True)
class Derived:
    """What is computed from the rounds."""

    scale: Scale
    found: Found

    def rows(self) -> list[Row]:
        """The cost of one more handler, and ratios that no target has, or has for one case only."""
        below, above = raises.slope_shapes(self.scale.handlers)
        slope = {"from": below.handlers, "to": above.handlers}
        rows = [
            Row.of("marginal_handler", self.marginal(**modules), "ns", slope | modules)
            for modules in ({}, {"modules": above.handlers})
        ]
        for count in ARGUMENTS:
            params = {"arguments": count}
            one = self.of(FROM_CYTHON, Shape(count, 1).params)
            rows.append(Row.of("raise_over_engine", _ratios(one, self.of(ENGINE, params)), "x", params))
            one = self.of(FROM_PYTHON, Shape(count, 1).params)
            rows.append(Row.of("raise_python_over_call", _ratios(one, self.of(PYTHON, params)), "x", params))
        from_python = self.of(FROM_PYTHON, Shape(1, 1).params)
        for name, peer in ((PLUGGY, "over_pluggy"), (LIST, "over_python_list")):
            if not peers.missing(name):
                taken = self.of(name, {"handlers": self.scale.handlers[0]})
                rows.append(Row.of(peer, _ratios(taken, from_python), "x"))
        return rows

    def targets(self) -> list[Target]:
        """What issue 3 demands, each from values of the same rounds."""
        few, many = self.scale.bindings[-2:]
        engine = self.of(ENGINE, {"arguments": 1})
        install = self.of(INSTALL, {"bindings": many})
        guarded = self.of(FROM_CYTHON, Shape(1, self.scale.guarded, ONE).params)
        python = self.of(FROM_PYTHON, Shape(1, 1).params)
        host_call = self.of(crossings.HOST_CALL, crossings.HOST_CALL_PARAMS)
        return [
            Target("raise_over_engine", ratio(self.one, engine), "<=", 1.6),
            self._python(python, engine),
            Target("marginal_handler_over_engine", ratio(self.marginal(), engine), "<=", 0.2),
            Target("guards_1000_over_1", ratio(guarded, self.one), "<=", 3),
            Target("install_10000_over_100_each", ratio(install, self.of(INSTALL, {"bindings": few})), "<=", 2),
            Target("install_over_engine", ratio(install, engine), "<=", 1000),
            Target("host_call_over_engine", ratio(host_call, engine), "<=", 0.6),
            self._over("over_wasmtime_py", WASMTIME_PY),
            self._over("over_extism", EXTISM),
        ]

    def _python(self, taken: Sequence[float], engine: Sequence[float]) -> Target:
        """When it is missed, how much of it no code of ours can save."""
        call = self.of(PYTHON, {"arguments": 1})
        target = Target("raise_python_over_call", ratio(taken, call), "<=", 1.5)
        reason = f"the bare engine call alone takes {ratio(engine, call):.2f} of a Python call"
        return target if target.met else replace(target, reason=reason)

    def _over(self, name: str, peer: str) -> Target:
        reason = peers.missing(peer)
        return Target(name, None if reason else ratio(self.of(peer, {}), self.one), ">=", 200, reason)

    @property
    def one(self) -> Sequence[float]:
        """A raise from Cython of one handler without guards, with one argument."""
        return self.of(FROM_CYTHON, Shape(1, 1, NONE).params)

    def marginal(self, **params: int) -> list[float]:
        """Nanoseconds for one more handler, in each round; ``params`` are those that its rows have besides."""
        below, above = raises.slope_shapes(self.scale.handlers)
        pairs = zip(
            self.of(FROM_CYTHON, below.params | params), self.of(FROM_CYTHON, above.params | params), strict=True
        )
        return [(more - less) / (above.handlers - below.handlers) for less, more in pairs]

    def of(self, name: str, params: Mapping[str, object]) -> Sequence[float]:
        return self.found[key_of(name, params)]


def _ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(numerator, denominator, strict=True)]


if __name__ == "__main__":
    sys.exit(main("dispatch", benchmark))
