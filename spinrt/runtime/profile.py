"""Where a runtime's extensions spend their time: stacks of guest code, once a millisecond while it runs.

The result is JSON in the format of the Firefox profiler, which https://profiler.firefox.com and others open. Names of
functions come from the modules' name sections. What is loaded after the profile began is not in it.
"""

from __future__ import annotations

import json
from types import TracebackType
from typing import TYPE_CHECKING, Any

from spinrt._core import GuestProfile, Store

if TYPE_CHECKING:
    from spinrt.runtime.runtime import Runtime


class Recording:
    """A profile of all extensions of a runtime, taken from now until `finish` or the end of a ``with`` block.

    Args:
        runtime: On whose thread this is used.
        title: What viewers show.

    Raises:
        StateError: It is profiled already.

    Example:
        ```python
        with Recording(runtime) as recording:
            event.raise_(…)
        Path("profile.json").write_bytes(recording.finish())
        ```
    """

    def __init__(self, runtime: Runtime, title: str = "spinrt") -> None:
        instances = [(domain.name, domain.instance) for domain in runtime.domains.values()]
        loaded = [(name, instance) for name, instance in instances if instance is not None]
        modules = tuple((name, instance.module) for name, instance in loaded)
        self._names: dict[Store, list[str]] = {}
        for name, instance in loaded:
            self._names.setdefault(instance.store, []).append(name)
        self._result: bytes | None = None
        self._samples = 0
        self._profiles = [GuestProfile(store, title, modules) for store in self._names]

    @property
    def samples(self) -> int:
        """Stacks that were taken."""
        return self._samples + sum(profile.samples for profile in self._profiles)

    def finish(self) -> bytes:
        """Stop, and return the profile; again and again the same.

        Raises:
            StateError: An extension is running.
        """
        if self._result is None:
            self._samples = self.samples
            documents = [json.loads(profile.finish()) for profile in self._profiles]
            self._profiles = []
            self._result = json.dumps(_joined(documents, [", ".join(names) for names in self._names.values()])).encode()
        return self._result

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()


def _joined(documents: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """One document with the threads of all: each store is shown as a thread that is called as its extensions."""
    if not documents:
        return {}
    threads = []
    for document, name in zip(documents, names, strict=True):
        threads += [{**thread, "name": name} for thread in document["threads"]]
    return {**documents[0], "threads": threads}
