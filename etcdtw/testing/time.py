"""Virtual time: a whole cluster's timers on one heap, driven by a seed.

Twisted's ``task.Clock`` fires a timer that reschedules itself once per advance, is slow with many
timers and always runs calls of the same instant in the order they were made. Here time moves from
call to call, and calls of the same instant run in an order that the seed chooses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from zope.interface import implementer

CALLS_PER_INSTANT_MAX = 100_000
"""More calls than this without time moving on is taken for an endless loop."""


class VirtualTime:
    """The time of a simulated world, in seconds since its beginning.

    The same seed and the same calls give the same order of everything, in any process: nothing
    here depends on hashes or addresses.
    """

    def __init__(self, seed: int | str = 0) -> None:
        self.now = 0.0
        self.calls_run = 0
        self._dice = random.Random(f"time/{seed}")
        self._heap: list[tuple[float, float, int, SimDelayedCall]] = []
        self._scheduled = 0

    def view(self, rate: float = 1.0) -> MemberTime:
        """A clock of its own for one process. It runs ``rate`` times as fast as the world's."""
        return MemberTime(self, rate)

    def step(self) -> bool:
        """Run the next call, moving time to when it is due; False if there is none."""
        call = self._next(None)
        if call is None:
            return False
        self.calls_run += 1
        call.run()
        return True

    def run_until(self, when: float) -> None:
        """Run everything that is due at or before ``when``; the time is ``when`` afterwards."""
        instant, calls = self.now, 0
        while (call := self._next(when)) is not None:
            if self.now > instant:
                instant, calls = self.now, 0
            calls += 1
            assert calls < CALLS_PER_INSTANT_MAX, f"time stands still at {instant}"
            self.calls_run += 1
            call.run()
        self.now = max(self.now, when)

    def run_until_idle(self, calls_max: int = 1_000_000) -> None:
        """Run until nothing is scheduled any more. A world with a periodic timer never is idle,
        which ends in an assertion after ``calls_max`` calls."""
        for _ in range(calls_max):
            if not self.step():
                return
        raise AssertionError(f"not idle after {calls_max} calls")

    def schedule(self, call: SimDelayedCall) -> None:
        """Queue a call for its time; its older place, if any, is void."""
        self._scheduled += 1
        call.ticket = self._scheduled
        heappush(self._heap, (call.due, self._dice.random(), self._scheduled, call))

    def _next(self, until: float | None) -> SimDelayedCall | None:
        heap = self._heap
        while heap and (until is None or heap[0][0] <= until):
            due, _, ticket, call = heappop(heap)
            if call.ticket == ticket:
                self.now = max(self.now, due)
                return call
        return None


@implementer(IDelayedCall)
class SimDelayedCall:
    """A call at a point of virtual time. ``ticket`` is its valid place in the heap, 0 for none."""

    __slots__ = ("_cancelled", "_view", "args", "due", "func", "kw", "ticket")

    def __init__(
        self,
        view: MemberTime,
        due: float,
        func: Callable[..., object],
        args: Sequence[Any],
        kw: dict[str, Any],
    ) -> None:
        self._view = view
        self._cancelled = False
        self.due = due
        self.func = func
        self.args = args
        self.kw = kw
        self.ticket = 0

    def run(self) -> None:
        """Make the call; for VirtualTime only."""
        if self._view.holds(self):
            return
        self.ticket = 0
        self._view.forget(self)
        self.func(*self.args, **self.kw)

    def getTime(self) -> float:
        return self._view.to_local(self.due)

    def active(self) -> bool:
        return self.ticket != 0

    def cancel(self) -> None:
        self._check_active()
        self._cancelled = True
        self.ticket = 0
        self._view.forget(self)

    def delay(self, secondsLater: float) -> None:
        self._check_active()
        self._view.reschedule(self, self.getTime() + secondsLater)

    def reset(self, secondsFromNow: float) -> None:
        self._check_active()
        self._view.reschedule(self, self._view.seconds() + secondsFromNow)

    def _check_active(self) -> None:
        if self.ticket == 0:
            raise AlreadyCancelled() if self._cancelled else AlreadyCalled()


@implementer(IReactorTime, IReactorFromThreads)
class MemberTime:
    """The clock of one simulated process: its rate may drift, and its timers die with it.

    Worker threads do not exist in virtual time; ``callFromThread`` is there for code that would
    be called from one.
    """

    def __init__(self, world: VirtualTime, rate: float = 1.0) -> None:
        assert rate > 0, f"a clock cannot run {rate} times as fast"
        self.world = world
        self._rate = rate
        self._born_world = world.now
        self._born_local = world.now
        self._calls: dict[SimDelayedCall, None] = {}
        self._held: list[tuple[int, SimDelayedCall]] | None = None
        self.crashed = False

    def seconds(self) -> float:
        return self.to_local(self.world.now)

    def to_local(self, world_seconds: float) -> float:
        """What this clock shows at a time of the world."""
        return self._born_local + (world_seconds - self._born_world) * self._rate

    def set_rate(self, rate: float) -> None:
        """Run faster or slower from now on. Calls that are scheduled keep their world time."""
        assert rate > 0, f"a clock cannot run {rate} times as fast"
        self._born_local = self.seconds()
        self._born_world = self.world.now
        self._rate = rate

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any
    ) -> SimDelayedCall:
        assert delay >= 0, f"a call {delay} seconds ago"
        call = SimDelayedCall(self, self.world.now + delay / self._rate, callable, args, kw)
        if not self.crashed:  # a dead process starts nothing
            self._calls[call] = None
            self.world.schedule(call)
        return call

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        self.callLater(0, callable, *args, **kw)

    def getDelayedCalls(self) -> Sequence[SimDelayedCall]:
        return list(self._calls)

    def crash(self) -> None:
        """End the process: none of its calls will run, and no new one is taken."""
        self.crashed = True
        for call in list(self._calls):
            call.cancel()

    def freeze(self) -> None:
        """Stop the process, as by SIGSTOP: its clock goes on, and what becomes due waits."""
        if self._held is None:
            self._held = []

    def thaw(self) -> None:
        """Let it go on: all that has waited runs now, in its order."""
        held, self._held = self._held or [], None
        for ticket, call in held:
            if call.ticket == ticket:
                self.world.schedule(call)

    def holds(self, call: SimDelayedCall) -> bool:
        """Whether a call that is due has to wait; for SimDelayedCall only."""
        if self._held is None:
            return False
        self._held.append((call.ticket, call))
        return True

    def reschedule(self, call: SimDelayedCall, local: float) -> None:
        """Move a call to another local time; for SimDelayedCall only."""
        left = max(0.0, local - self.seconds())
        call.due = self.world.now + left / self._rate
        self.world.schedule(call)

    def forget(self, call: SimDelayedCall) -> None:
        """Drop a call that was made or cancelled; for SimDelayedCall only."""
        del self._calls[call]
