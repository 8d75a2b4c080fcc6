"""What a runtime tells of itself, and the metrics that are made of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from spinrt._core import Capability
from spinrt.errors import SpinError
from spinrt.runtime.capability import Grant
from spinrt.runtime.inspect import describe, quantile
from spinrt.runtime.metrics import LATENCY_BOUNDS_NS, Exposition, exported_buckets
from spinrt.runtime.order import After
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.condition import Equal, Range
from tests.guests import BUMP, EVENTS, HOST, extension, granted, runtime

THING = f"{HOST}#thing"
BODY = f"""
(import "{HOST}" "note" (func $note (param i32 i32))) {BUMP}
(func (export "{EVENTS}#ping") (call $note (i32.const 0) (i32.const 0)))
(func (export "{EVENTS}#add") (param i32 i32) (result i32) unreachable)
"""


class Thing:
    """A resource."""


def loaded(policy: Policy | None = None) -> Runtime:
    made = runtime({"note": lambda call, text: None}, events=("ping", "add"))
    made.load(extension(BODY, handlers=("ping", "add"), limits={"handles": 5, "undo_bytes": 0}), policy or granted())
    return made


def test_description_names_domain_limits_usage_and_grants() -> None:
    """Who holds what, through which grant, where it was written; limits as the policy clamps them."""
    grant = Grant(HOST, ("note", "again"), {}, "spinrt.yaml:7: extensions.guest.grants")
    policy = Policy({HOST: grant}, Policy.from_mapping({"limits": {"deadline_ms": 3}}).limits)

    (domain,) = describe(loaded(policy))["domains"]

    assert (domain["name"], domain["version"], domain["state"]) == ("guest", "1.0.0", "running")
    assert (domain["limits"]["deadline_ms"], domain["limits"]["handles"]) == (3, 5)
    assert domain["usage"]["memory_bytes"] == 65536
    assert domain["grants"] == [
        {
            "interface": HOST,
            "functions": ["note", "again"],
            "attenuations": {},
            "where": "spinrt.yaml:7: extensions.guest.grants",
            "imports": ["note"],
            "exporter": "host",
        }
    ]


def test_description_lists_handles_with_their_chain() -> None:
    """Type, rights, generation, and everybody above; a bare object is told from a capability; revocation shows."""
    made = loaded()
    (domain,) = made.domains.values()
    grant = Grant(HOST, where="here")
    root = Capability(Thing(), THING, ["name", "size"], granter="mail")
    domain.externalize(root.delegate("alice", rights=["size"], grant=grant), THING)
    domain.externalize(Thing(), THING)

    first, second = describe(made)["domains"][0]["handles"]

    assert (first["resource"], first["own"], first["generation"]) == (THING, True, 0)
    assert first["capability"]["revoked"] is None
    assert [
        (link["holder"], link["granter"], link["rights"], link["grant"]) for link in first["capability"]["chain"]
    ] == [
        ("guest", "alice", ["size"], None),
        ("alice", "mail", ["size"], "here"),
        ("", "mail", ["name", "size"], None),
    ]
    assert second["capability"]["chain"][0]["rights"] is None
    assert describe(made)["domains"][0]["usage"]["handles"] == 2
    assert describe(made, handles=False)["domains"][0]["handles"] == []

    root.revoke("bob", "no more", time_ns=0)

    first, _ = describe(made)["domains"][0]["handles"]
    assert first["capability"]["revoked"] == "bob revoked it at 1970-01-01 00:00:00Z: no more"


def test_description_counts_faults_and_tells_the_last() -> None:
    """After a fault and a kill."""
    made = loaded()
    with pytest.raises(SpinError):
        made.events[f"{EVENTS}#add"].raise_(1, 2)
    (domain,) = describe(made)["domains"]
    assert domain["counters"] == {"faults": 1, "restarts": 1, "quarantines": 0, "refused": 0, "denials": 0}
    assert domain["faults_by_code"] == {"extension.trap": 1}
    assert domain["health"] == {"state": "faulted", "quarantined_for_s": 0, "faults_on_probation": 0}
    assert domain["last_fault"].startswith("extension.trap")

    made.domains["guest"].kill("enough", "alice")

    assert describe(made)["domains"][0]["state"] == "killed"


def test_description_lists_bindings_in_order() -> None:
    """Handlers of domains and of the host, as they run."""
    made = loaded()
    event = made.events[f"{EVENTS}#ping"]

    def early(call: object) -> None: ...

    binding = event.install(early, by="operator", order=1, guards=[lambda call: True])
    event.install(early, order=2, cancels=True, place=After("guest"))
    event.impose(binding, lambda call: False, by="operator")
    event.raise_()

    found = next(one for one in describe(made)["events"] if one["name"] == event.name)

    assert [(one["domain"], one["handler"].rpartition(".")[2], one["order"]) for one in found["bindings"]] == [
        (None, "early", 1),
        ("guest", f"{EVENTS}#ping".rpartition(".")[2], 100),
        (None, "early", 2),
    ]
    assert len({one["id"] for one in found["bindings"]}) == 3
    first, guest, last = found["bindings"]
    assert (first["by"], first["mode"], last["cancels"], last["places"]) == ("operator", "sync", True, ["after guest"])
    assert [guard["imposed_by"] for guard in first["guards"]] == ["operator", None]
    assert first["counts"] == {"raises": 0, "guarded": 1, "faults": 0, "ended": 0}
    assert guest["counts"]["raises"] == 1
    assert found["on_fault"] == "skip"


def test_guards_are_told_as_a_manifest_says_them() -> None:
    """Each kind of condition, and code."""
    made = runtime(events=("add",))
    guards = [Equal("left", 3), Range("right", 1, None), Range("right", 1, 2)]
    made.events[f"{EVENTS}#add"].install(lambda call, left, right: left, guards=guards)

    found = describe(made)["events"][0]["bindings"][0]["guards"]

    assert [guard["text"] for guard in found] == [
        "left equals 3",
        "right is at least 1",
        "right is at least 1 and at most 2",
    ]


def test_latencies_are_sampled_and_exported() -> None:
    """After enough raises there are samples, and both percentiles lie among them."""
    made = loaded()
    for _ in range(5_000):
        made.events[f"{EVENTS}#ping"].raise_()

    description = describe(made)

    latency = description["events"][0]["bindings"][0]["latency"]
    assert latency["samples"] >= 2
    assert 0 < latency["p50_ns"] <= latency["p99_ns"] <= latency["max_ns"]
    labels = frozenset(
        {("event", f"{EVENTS}#ping"), ("domain", "guest"), ("handler", f"{EVENTS}#ping"), ("binding", "1")}
    )
    found = samples(Exposition().write(description))
    assert found["spinrt_handler_latency_seconds_count", labels] == latency["samples"]
    assert found["spinrt_handler_raises_total", labels] == 5_000


def test_description_is_json() -> None:
    """It goes through JSON unchanged."""
    made = loaded()
    made.domains["guest"].externalize(Thing(), THING)
    assert json.loads(json.dumps(describe(made))) == describe(made)


def test_empty_runtime_is_described() -> None:
    """Nothing loaded, nothing defined."""
    assert describe(runtime()) == {"format": 1, "domains": [], "events": []}
    assert b"spinrt_domain_info" in Exposition().write(describe(runtime()))


# ------------------------------------------------------------------------------------------------------------- metrics


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What Prometheus would read."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_metrics_are_those_of_the_description() -> None:
    """Domain figures by domain, read back by the library's parser; the process is there, too."""
    made = loaded()
    with pytest.raises(SpinError):
        made.events[f"{EVENTS}#add"].raise_(1, 2)

    found = samples(Exposition().write(describe(made)))

    guest = frozenset({("domain", "guest")})
    assert found["spinrt_domain_faults_total", guest] == 1
    assert found["spinrt_domain_memory_bytes", guest] == 65536
    assert found["spinrt_domain_limit", guest | {("limit", "handles")}] == 5
    assert found["spinrt_domain_info", guest | {("version", "1.0.0"), ("state", "running")}] == 1
    assert any(name == "process_resident_memory_bytes" for name, _ in found)


@dataclass
class Description:
    """A description with one binding, made by hand: what the core counts."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("raises", "guarded", "faults", "ended"), 0))
    latency: dict[str, Any] | None = None
    handler: str = "h"
    made: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        binding = {"id": 4, "domain": None, "handler": self.handler, "counts": self.counts, "latency": self.latency}
        self.made = {"domains": [], "events": [{"name": "e", "bindings": [binding]}]}


def test_bindings_are_counted_by_event_domain_and_handler() -> None:
    """Text of any kind in a name does not break out of its label."""
    name = 'a"b\\c\nd'
    counts = {"raises": 3, "guarded": 2, "faults": 1, "ended": 0}

    found = samples(Exposition().write(Description(counts, handler=name).made))

    labels = frozenset({("event", "e"), ("domain", "host"), ("handler", name), ("binding", "4")})
    assert {key: found[f"spinrt_handler_{key}_total", labels] for key in counts} == counts


def test_latency_is_a_histogram() -> None:
    """Cumulative, with fixed bounds, a count and a sum."""
    buckets = [[90, 2], [100, 1], [101, 1], [7 * 10**9, 1]]

    found = samples(Exposition().write(Description(latency={"buckets": buckets}).made))

    labels = frozenset({("event", "e"), ("domain", "host"), ("handler", "h"), ("binding", "4")})
    name = "spinrt_handler_latency_seconds"
    assert found[f"{name}_bucket", labels | {("le", "1e-07")}] == 3
    assert found[f"{name}_bucket", labels | {("le", "2e-07")}] == 4
    assert found[f"{name}_bucket", labels | {("le", "5")}] == 4
    assert found[f"{name}_count", labels] == found[f"{name}_bucket", labels | {("le", "+Inf")}] == 5
    assert found[f"{name}_sum", labels] == pytest.approx(7.000000381)


BUCKETS = st.lists(
    st.tuples(st.integers(0, 10**11), st.integers(1, 20)), min_size=1, max_size=30, unique_by=lambda b: b[0]
)


@given(BUCKETS)
def test_exported_buckets_hold_every_sample_where_it_belongs(found: list[tuple[int, int]]) -> None:
    """For every bound: what lies at or below it, as a plain sum says."""
    found.sort()
    made = exported_buckets(found)

    assert [float(bound) for bound, _ in made] == [pytest.approx(ns * 1e-9) for ns in LATENCY_BOUNDS_NS] + [
        float("inf")
    ]
    for (_, total), limit in zip(made, [*LATENCY_BOUNDS_NS, 10**12], strict=True):
        assert total == sum(count for upper, count in found if upper <= limit)


@given(BUCKETS, st.floats(0, 1))
def test_quantile_agrees_with_all_samples_laid_out(found: list[tuple[int, int]], share: float) -> None:
    """The bucket in which the sample at that place lies."""
    found.sort()
    laid_out = [upper for upper, count in found for _ in range(count)]
    below = [upper for upper in laid_out if upper <= quantile(found, share)]

    assert quantile(found, share) in laid_out
    assert len(below) >= share * len(laid_out)
    smaller = [upper for upper in laid_out if upper < quantile(found, share)]
    assert not smaller or len(smaller) < share * len(laid_out)
