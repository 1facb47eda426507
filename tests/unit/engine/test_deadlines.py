"""Many moments behind one timer."""

import asyncio
import gc
import weakref

from agentflow.engine.deadlines import FEW, Deadlines

FAR_S = 3600.0


async def reached(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


async def test_deadlines_are_called_in_the_order_of_their_moments():
    deadlines, called, last = Deadlines(), [], asyncio.Event()
    deadlines.later(0.03, last.set)
    for number in (2, 0, 1):
        deadlines.later(0.005 * number, called.append, number)
    await reached(last)
    assert called == [0, 1, 2]


async def test_deadline_before_all_others_is_called_first():
    deadlines, called = Deadlines(), asyncio.Event()
    deadlines.later(FAR_S, called.clear)
    deadlines.later(0.0, called.set)
    await reached(called)


async def test_cancelled_deadline_is_not_called():
    deadlines, called, last = Deadlines(), [], asyncio.Event()
    cancelled = deadlines.later(0.001, called.append, 1)
    deadlines.later(0.002, last.set)
    cancelled.cancel()
    cancelled.cancel()
    await reached(last)
    assert called == [] and not cancelled.open


async def test_deadline_is_not_called_when_another_of_its_moment_cancels_it():
    deadlines, called, last = Deadlines(), [], asyncio.Event()
    later = deadlines.later(0.002, called.append, 1)
    deadlines.later(0.001, later.cancel)
    deadlines.later(0.003, last.set)
    while asyncio.get_running_loop().time() < later + 0.002:  # all are due when the loop looks
        pass
    await reached(last)
    assert called == []


async def test_deadlines_go_on_when_one_of_them_raises():
    deadlines, last = Deadlines(), asyncio.Event()
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    deadlines.later(0.0, [].pop)
    deadlines.later(0.0, last.set)
    await reached(last)
    assert [type(context["exception"]) for context in told] == [IndexError]


async def test_deadline_that_is_called_may_set_another_one():
    deadlines, last = Deadlines(), asyncio.Event()
    deadlines.later(0.0, deadlines.later, 0.0, last.set)
    await reached(last)


class Held:
    """Something that a deadline holds."""

    def call(self) -> None:
        raise AssertionError("It was cancelled")


async def test_cancelled_deadlines_are_let_go_of_long_before_their_moment():
    deadlines = Deadlines()
    open_one = deadlines.later(FAR_S, lambda: None)
    holders = [Held() for _ in range(10 * FEW)]
    cancelled = [deadlines.later(FAR_S, each.call) for each in holders]
    seen = [weakref.ref(each) for each in holders]
    for deadline in cancelled:
        deadline.cancel()
    del holders, cancelled, deadline
    gc.collect()
    assert not [each for each in seen if each() is not None]
    assert deadlines.kept <= 2 * FEW + 2
    open_one.cancel()
    assert deadlines.kept == 0
