"""Rigs: one handler of an extension on a stage, made so that faults of one kind can be injected.

No number of faults puts an extension on a rig into quarantine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from spinrt.check.faults import AnsweringInterface, Gate, GatedInterface
from spinrt.check.rehearsal import Rig, alone
from spinrt.check.stage import Stage, Wrap
from spinrt.check.subject import Subject
from spinrt.runtime.capability import HostInterface
from spinrt.sandbox.fitted import Fitting
from spinrt.sandbox.loader import Extension
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.manifest_handler import Handler

KINDS: Final = ("counting", "gated", "answering")


class Rigs:
    """Makes rigs for one extension.

    Args:
        subject: The extension; it loads.
        seed: What made interfaces answer follows from it.
    """

    def __init__(self, subject: Subject, seed: int) -> None:
        self._subject = subject
        self._seed = seed
        extension = subject.extension
        assert extension is not None
        self._extension: Extension = extension
        self._counting = Fitting(extension.name, subject.code, extension.module, countdown=True)

    def make(self, kind: str, handler: Handler, **limits: int) -> Rig:
        """Return a rig of that kind for a handler; ``limits`` lower those of the policy.

        Raises:
            LinkError, ExtensionError: It does not initialise under these limits.
        """
        policy = self._subject.policy
        lowered = Limits.clamped(policy.limits, replace(policy.limits, **limits))
        stage = Stage(self._subject, seed=self._seed, wrap=self._wrap(kind))
        extension = alone(self._extension, handler)
        if kind == "counting":
            extension = replace(extension, fitting=self._counting)
        patient = replace(policy.supervision, faults=0, crash_records=False)
        domain = stage.load(replace(policy, limits=lowered, supervision=patient), extension=extension, quotas=Gate)
        return Rig(stage, domain, stage.runtime.events[handler.event])

    def _wrap(self, kind: str) -> Wrap | None:
        if kind == "gated":
            return self._gated
        return AnsweringInterface if kind == "answering" else None

    def _gated(self, inner: HostInterface) -> HostInterface:
        functions = self._subject.interfaces.get(inner.interface_id).functions
        return GatedInterface(inner, frozenset(functions))
