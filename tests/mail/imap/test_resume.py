"""A coroutine begun outside of a task and gone on with inside of one does what it does as a task from the start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.imap.resume import resume

STEPS = ("turn", "value", "failure", "done before", "raise")


async def follow(steps: list[str], caught: list[str]) -> int:
    """Wait in the ways that the steps say; what failed is noted, and ``raise`` ends it."""
    loop, total = asyncio.get_running_loop(), 0
    for step in steps:
        future: asyncio.Future[int] = loop.create_future()
        if step == "turn":
            await asyncio.sleep(0)
        elif step == "value":
            loop.call_soon(future.set_result, len(steps))
            total += await future
        elif step == "failure":
            loop.call_soon(future.set_exception, KeyError(step))
            try:
                await future
            except KeyError:
                caught.append(step)
        elif step == "done before":
            future.set_result(1)
            total += await future
        else:
            raise ValueError(total)
    return total


async def begun(work: Coroutine[Any, Any, int]) -> int:
    """As the connection does it."""
    try:
        waits_for = work.send(None)
    except StopIteration as end:
        return int(end.value)
    return await asyncio.get_running_loop().create_task(_awaited(work, waits_for))


async def _awaited(work: Coroutine[Any, Any, int], waits_for: object) -> int:
    return await resume(work, waits_for)


async def whole(work: Coroutine[Any, Any, int]) -> int:
    return await asyncio.get_running_loop().create_task(work)


def outcome(run: Callable[[Coroutine[Any, Any, int]], Coroutine[Any, Any, int]], steps: list[str]) -> tuple[Any, ...]:
    caught: list[str] = []
    try:
        return asyncio.run(run(follow(steps, caught))), caught
    except ValueError as error:
        return repr(error), caught


@given(st.lists(st.sampled_from(STEPS), max_size=6))
def test_begun_and_resumed_is_as_a_task(steps: list[str]) -> None:
    """The same result or error, and the same failures seen on the way."""
    assert outcome(begun, steps) == outcome(whole, steps)


def test_a_task_that_is_cancelled_ends_what_it_resumed() -> None:
    """The coroutine sees the cancellation and may clean up."""
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("cleaned up")

    async def main() -> None:
        begun_work = work()
        task = asyncio.ensure_future(resume(begun_work, begun_work.send(None)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert seen == ["cleaned up"]
