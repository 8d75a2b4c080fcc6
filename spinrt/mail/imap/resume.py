"""Going on, in a task, with a coroutine that was begun outside of one.

Most commands never wait. Their coroutines are begun where the command was read, by ``send``, and cost no task when they
end there. One that has to wait has given out what it waits for; a task that runs `resume` takes over from there.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


@coroutine
def resume(work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Wait for what ``work`` gave when it was begun, then go on with it to its end; returns or raises what it does.

    Args:
        waits_for: What ``work.send(None)`` returned: a future of the running loop, or none for one turn of it.
    """
    try:
        while True:
            try:
                value = yield waits_for
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(value)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
