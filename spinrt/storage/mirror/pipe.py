"""An update, or a repair, between two directories of one machine: both engines in one thread, no socket."""

from __future__ import annotations

from collections.abc import Callable

from spinrt.errors import InternalError
from spinrt.storage.mirror.client import Client
from spinrt.storage.mirror.receiver import Receiver


def run(sender: Client, receiver: Receiver, spend: Callable[[int], None] | None = None) -> None:
    """Carry one update or repair through.

    Args:
        spend: Called with the bytes that go to the mirror, before they do; a throttle waits in it.

    Raises:
        SpinError: What either side raised. The mirror stays as it was.
    """
    while not sender.done:
        data = sender.produce()
        if spend is not None and data:
            spend(len(data))
        answer = receiver.receive(data)
        if not data and not answer and not sender.done:
            raise InternalError("mirror: both sides wait for each other")
        while answer:
            sender.receive(answer)
            answer = receiver.receive(b"")
