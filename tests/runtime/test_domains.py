"""The life of a domain: what can be done in which state, and what an operator is told of what is missing."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import yaml

from spinrt.errors import LinkDenied, LinkError, SpinError, StateError, UnresolvedImport, UsageError
from spinrt.host.kv import KvInterface
from spinrt.runtime.capability import Functions, Grant
from spinrt.runtime.debug import DebugDomain
from spinrt.runtime.domain import Domain, DomainState
from spinrt.runtime.policy import Policy
from spinrt.runtime.source import CombinedDomain
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import ALL_WORDS, LIFECYCLE, MORE, WORDS, exporter, guest, importer, runtime

KV = "spinrt:kv/store@1.0.0"
NOTE = f'(import "{HOST}" "note" (func $note (param i32 i32)))'
DELETE = f'(import "{KV}" "delete" (func (param i32 i32) (result i32)))'
GET = f'(import "{KV}" "get" (func (param i32 i32 i32)))'
BOTH = Policy.granting(HOST, KV)
SILENT = {"note": lambda call, text: None}


def noting(seen: list[str]) -> Functions:
    return Functions(HOST, {"note": lambda call, text: seen.append(text)})


def asking(**options: Any) -> Any:
    body = f'{NOTE} {DELETE} {BUMP} (func (export "{EVENTS}#add") (param i32 i32) (result i32) (i32.const 7))'
    return guest("asker", body, imports=(HOST, KV), handlers=("add",), **options)


def test_life_of_a_domain() -> None:
    """Created, resolved piece by piece, initialised, destroyed; each step only from the one before."""
    domain = Domain.create(asking(), BOTH)
    assert domain.state is DomainState.CREATED
    with pytest.raises(UnresolvedImport, match="nobody was found to export"):
        domain.initialize()
    assert domain.resolve(Domain.create_from_host(noting([]))) == 1
    assert [one.function for one in domain.unresolved()] == ["delete"]
    assert domain.state is DomainState.CREATED
    assert domain.resolve(Domain.create_from_host(KvInterface())) == 1
    assert domain.state is DomainState.RESOLVED
    domain.initialize()
    assert domain.state is DomainState.INITIALISED
    assert domain.exports[f"{EVENTS}#add"](None, 1, 2) == 7
    with pytest.raises(StateError, match="it is initialised, expected it to be resolved"):
        domain.initialize()
    domain.destroy()
    for operation in (domain.initialize, domain.destroy, lambda: domain.resolve(DebugDomain())):
        with pytest.raises(StateError, match="it is destroyed"):
            operation()
    assert domain.exports == {}


def test_what_is_bound_stays_bound() -> None:
    """A second source does not take over what the first one serves."""
    first: list[str] = []
    second: list[str] = []
    body = f'{NOTE} {BUMP} (func (export "{EVENTS}#ping") (call $note (i32.const 0) (i32.const 1)))'
    domain = Domain.create(guest("one", body, imports=(HOST,), handlers=("ping",)), Policy.granting(HOST))
    assert domain.resolve(Domain.create_from_host(noting(first))) == 1
    assert domain.resolve(Domain.create_from_host(noting(second))) == 0
    domain.initialize()
    domain.exports[f"{EVENTS}#ping"](None)
    assert (len(first), len(second)) == (1, 0)


def test_unresolved_domain_does_not_run_until_it_is_whole_again() -> None:
    """Unresolving ends the instance; another exporter and a new initialise bring the same handlers back to work."""
    made = runtime(SILENT)
    event = made.events[f"{EVENTS}#add"]
    made.export(KvInterface())
    domain = made.load(asking(), BOTH)
    assert event.raise_(0, 0) == 7
    source = made.nameserver.exporter(KV)
    assert source is not None
    assert domain.unresolve(source) == 1
    assert domain.unresolve(source) == 0
    assert event.raise_(0, 0) is None
    assert domain.counters.faults == 1
    with pytest.raises(UnresolvedImport, match=KV):
        domain.initialize()
    domain.resolve(Domain.create_from_host(KvInterface()))
    domain.initialize()
    assert event.raise_(0, 0) == 7


def test_everything_missing_is_in_one_error() -> None:
    """Missing grants with the policy that gives them, unknown exporters and refusals: one error, all of it."""
    body = f'{NOTE} {DELETE} {GET} (import "{WORDS}" "double" (func (param i32) (result i32)))'
    made = runtime()
    made.export(KvInterface(), lambda importing, grant: f"{importing.name} {importing.extension.manifest.version}: no")
    policy = Policy({WORDS: Grant(WORDS), KV: Grant(KV, ("get", "delete"))})
    with pytest.raises(LinkDenied) as caught:
        made.load(guest("asker", body, imports=(HOST, KV, WORDS)), policy)
    text = str(caught.value)
    assert f"not granted: {HOST} (note)" in text
    assert f"nobody exports {WORDS}" in text
    assert "refuses: asker 1.0.0: no" in text
    assert made.domains == {}
    given = yaml.safe_load(text.partition("grants: ")[2].partition(";")[0])
    assert given == {HOST: {"functions": ["note"]}}


def test_debug_domain_tells_what_was_asked() -> None:
    """By whom, which function of which type, granted or not; its functions fail when they are called."""
    body = f'{NOTE} {DELETE} (func (export "{EVENTS}#ping") (call $note (i32.const 0) (i32.const 0))) {BUMP}'
    domain = Domain.create(guest("asker", body, imports=(HOST, KV), handlers=("ping",)), Policy.granting(HOST))
    debug = DebugDomain()
    assert domain.resolve(debug) == 1
    assert domain.resolve(debug) == 0
    assert list(debug.report()) == [
        f"asker: {HOST}: note: func(text: string)",
        f"asker: {KV}: delete: func(key: string) -> bool (not granted)",
    ]
    assert yaml.safe_load(f"{{{debug.grants(domain)}}}") == {KV: {"functions": ["delete"]}}
    with pytest.raises(LinkDenied, match="delete"):
        domain.initialize()
    domain.resolve(debug)
    whole = Domain.create(domain.extension, BOTH)
    whole.resolve(debug)
    whole.initialize()
    with pytest.raises(UnresolvedImport, match="debug domain"):
        whole.exports[f"{EVENTS}#ping"](None)


def test_combined_domains_are_one_name_space() -> None:
    """Resolving against a combination binds to its members; an interface has one exporter in it."""
    host = Domain.create_from_host(noting([]))
    both = Domain.combine("base", [host, Domain.create_from_host(KvInterface())])
    domain = Domain.create(asking(), BOTH)
    assert domain.resolve(both) == 2
    assert domain.unresolve(both) == 2
    assert set(both.interfaces) == {HOST, KV}
    with pytest.raises(StateError, match="expected one exporter"):
        Domain.combine("twice", [both, Domain.create_from_host(KvInterface())])
    assert Domain.combine("same", [both, host]).interfaces.count(HOST) == 2


def test_nested_domains_are_reached_by_their_path_only() -> None:
    """What is nested is not exported by the outer one, may export the same, and never holds itself."""
    outer: CombinedDomain = Domain.combine("outer", [Domain.create_from_host(KvInterface())])
    inner = Domain.combine("inner", [])
    leaf = Domain.create_from_host(KvInterface())
    outer.nest("a", inner)
    inner.nest("b", leaf)
    assert outer.child("a/b") is leaf
    assert outer.interfaces == (KV,)
    with pytest.raises(StateError, match="holds this domain"):
        inner.nest("c", outer)
    with pytest.raises(StateError, match="taken"):
        outer.nest("a", leaf)
    for path in ("b", "a/b/c", "a//b", ""):
        with pytest.raises(UsageError, match="found nothing"):
            outer.child(path)
    for name in ("", "x/y"):
        with pytest.raises(UsageError, match="without"):
            outer.nest(name, leaf)


def test_loaded_domain_is_destroyed_by_its_runtime_only() -> None:
    """Handlers of a destroyed domain would stay behind."""
    made = runtime()
    domain = made.load(guest("one", "", imports=()))
    with pytest.raises(StateError, match="loaded in a runtime"):
        domain.destroy()
    made.unload(domain)
    assert domain.state is DomainState.DESTROYED


def test_failing_load_leaves_nothing() -> None:
    """Neither a name, nor a handler, nor an exporter, nor a grant is left of what was not loaded."""
    trap = f'(func $s unreachable) (start $s) (func (export "{EVENTS}#add") (param i32 i32) (result i32) (i32.const 1))'
    made = runtime()
    kept: list[weakref.ref[Any]] = []

    class Watched(Functions):
        def bind(self, function: str, grant: Grant, domain: Domain) -> Any:
            closure = lambda call, text: None  # noqa: E731
            kept.append(weakref.ref(closure))
            return closure

    made.export(Watched(MORE, {}))
    body = f'(import "{MORE}" "triple" (func (param i32) (result i32))) {trap} {ALL_WORDS}'
    bad = guest("bad", body, imports=(MORE,), exports=(WORDS,), handlers=("add",))
    with pytest.raises(SpinError, match="unreachable"):
        made.load(bad, Policy.granting(MORE))
    assert made.domains == {}
    assert made.events[f"{EVENTS}#add"].bindings == ()
    assert made.nameserver.exporter(WORDS) is None
    gc.collect()
    assert [one() for one in kept] == [None]


def test_interface_with_two_exporters_is_refused() -> None:
    """The second one is not loaded, and the first goes on."""
    made = runtime()
    first = made.load(exporter("first"))
    with pytest.raises(StateError, match="first, and found second"):
        made.load(exporter("second"))
    assert made.nameserver.exporter(WORDS) is first
    made.unload(first)
    made.load(exporter("second"))


def test_lifecycle_is_not_for_others() -> None:
    """What the runtime calls is not exported to other extensions, whatever is granted."""
    init = f'{BUMP} (func (export "{LIFECYCLE}#init") (result i32) (i32.const 64))'
    asker = f'(import "{LIFECYCLE}" "init" (func (param i32)))'
    made = runtime()
    made.load(guest("one", init, exports=(LIFECYCLE,)))
    made.load(guest("two", init, exports=(LIFECYCLE,)))
    with pytest.raises(UnresolvedImport, match="nobody exports"):
        made.load(guest("asker", asker, imports=(LIFECYCLE,)), Policy.granting(LIFECYCLE))


def test_initialise_again_is_refused_under_a_raise() -> None:
    """Exports that a running raise may be in are not moved to another instance."""
    made = runtime(SILENT)
    made.export(KvInterface())
    domain = made.load(asking(), BOTH)
    source = made.nameserver.exporter(KV)
    assert source is not None
    caught: list[LinkError | StateError] = []

    def meddle(call: Any, left: int, right: int) -> int:
        domain.unresolve(source)
        domain.resolve(source)
        try:
            domain.initialize()
        except StateError as error:
            caught.append(error)
        return 1

    event = made.events[f"{EVENTS}#add"]
    event.install(meddle, order=1)
    event.raise_(0, 0)
    assert "raise on the stack" in str(caught[0])
    domain.initialize()
    assert domain.is_running


def test_importer_is_not_ready_before_its_exporter() -> None:
    """An extension's domain serves others only while it runs."""
    source = Domain.create(exporter())
    domain = Domain.create(importer(), Policy.granting(WORDS))
    with pytest.raises(StateError, match="words is resolved, expected it to be initialised"):
        domain.resolve(source)
    source.initialize()
    assert domain.resolve(source) == 1
    domain.initialize()
    assert domain.exports[f"{EVENTS}#add"](None, 4, 0) == 8
