"""Shipped extensions with an undo log do what they do without one: results, errors, effects, every byte of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinrt._core import has_log, peek
from spinrt.check.inputs import Input, inputs
from spinrt.check.rehearsal import Outcome, Rig
from spinrt.check.rigs import Rigs
from spinrt.check.samples import context_of, mail_resources
from spinrt.check.subject import Subject, read_subject
from spinrt.errors import SpinError
from spinrt.mail.extensions import SHIPPED
from spinrt.runtime.call import Transaction

INPUTS = 150


def rig_of(subject: Subject, event: str, undo_bytes: int) -> Rig:
    """A handler whose module was rewritten to keep a log, or was not."""
    policy = replace(subject.policy, limits=replace(subject.policy.limits, undo_bytes=undo_bytes))
    (handler,) = [one for one in subject.manifest.handlers if one.event == event]
    return Rigs(replace(subject, policy=policy), 0).make("gated", handler)


def memory(rig: Rig) -> bytes:
    return peek(rig.instance, 0, rig.instance.memory_size)


def kept(rig: Rig) -> object:
    """What it did outside: its map, its log records."""
    return dict(rig.stage.mail.spaces.space(rig.domain.name).values), rig.stage.records


def run(rig: Rig, one: Input) -> Outcome:
    """Raise and commit."""
    rig.stage.reset()
    with Transaction(context_of(rig.event.name, one.arguments)) as transaction:
        try:
            result = transaction.raise_(rig.event, *one.arguments)
        except SpinError as error:
            return Outcome(None, error, [], failed=True)
        return Outcome(result, None, transaction.commit(), failed=False)


HANDLERS = [
    (path.parent.name, handler.event)
    for path in sorted(SHIPPED.glob("*/manifest.yaml"))
    for handler in read_subject(path.parent).manifest.handlers
]


@pytest.mark.parametrize(("name", "event"), HANDLERS)
def test_what_was_rewritten_agrees_with_the_original(name: str, event: str) -> None:
    """Input after input, each committed, so that state goes on; a run that fails is left out of what is compared."""
    subject = read_subject(SHIPPED / name)
    original, rewritten = (rig_of(subject, event, size) for size in (0, 16 << 20))
    assert (has_log(original.instance), has_log(rewritten.instance)) == (False, True)
    good = 0
    for one in inputs(original.event.function, seed=3, count=INPUTS, resources=mail_resources()):
        expected, found = (run(rig, one) for rig in (original, rewritten))
        assert found.difference(expected) == "", one.label
        if expected.failed:  # the original has lost its state
            continue
        good += 1
        assert memory(rewritten) == memory(original), one.label
        assert kept(rewritten) == kept(original), one.label
    assert good > INPUTS // 2
