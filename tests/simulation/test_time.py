"""Virtual time: order, views, drift and crashes."""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.testing.time import VirtualTime


class VirtualTimeTests(SynchronousTestCase):
    """The heap."""

    def test_interfaces(self) -> None:
        """A view is a reactor's clock, and its calls are delayed calls."""
        view = VirtualTime().view()
        verifyObject(IReactorTime, view)
        verifyObject(IReactorFromThreads, view)
        verifyObject(IDelayedCall, view.callLater(1, list))

    def test_order_of_time(self) -> None:
        """Calls run when they are due, and the time is then what they were scheduled for."""
        time, said = VirtualTime(), []
        view = time.view()
        for delay in (3, 1, 2):
            view.callLater(delay, lambda: said.append(view.seconds()))
        time.run_until(2.5)
        self.assertEqual(said, [1, 2])
        self.assertEqual(time.now, 2.5)
        time.run_until_idle()
        self.assertEqual(said, [1, 2, 3])
        self.assertFalse(time.step())

    def test_shuffled_by_seed(self) -> None:
        """Calls of the same instant run in an order that only the seed decides."""

        def order(seed: int) -> list[int]:
            time = VirtualTime(seed)
            said: list[int] = []
            view = time.view()
            for number in range(20):
                view.callLater(1, said.append, number)
            time.run_until_idle()
            return said

        self.assertEqual(order(1), order(1))
        self.assertNotEqual(order(1), order(2))
        self.assertEqual(sorted(order(1)), list(range(20)))

    def test_crash(self) -> None:
        """A crash cancels exactly the calls of one view, and that view takes no new ones."""
        time = VirtualTime()
        said: list[str] = []
        dead, alive = time.view(), time.view()
        call = dead.callLater(1, said.append, "dead")
        alive.callLater(1, said.append, "alive")
        dead.crash()
        dead.callLater(1, said.append, "dead again")
        time.run_until_idle()
        self.assertEqual(said, ["alive"])
        self.assertFalse(call.active())
        self.assertEqual(list(dead.getDelayedCalls()), [])

    def test_frozen(self) -> None:
        """What becomes due in a frozen process runs in its order when it goes on, unless somebody
        has cancelled it; a process that ends meanwhile runs nothing more."""
        time = VirtualTime()
        said: list[str] = []
        frozen, dead = time.view(), time.view()
        for delay in (2, 1, 3):
            frozen.callLater(delay, said.append, f"{delay}")
            dead.callLater(delay, said.append, "dead")
        call = frozen.callLater(1, said.append, "cancelled")
        moved = frozen.callLater(1, said.append, "moved")
        frozen.freeze()
        dead.freeze()
        time.run_until(2.5)
        self.assertEqual((said, call.active(), frozen.seconds()), ([], True, 2.5))
        call.cancel()
        moved.reset(1.5)
        dead.crash()
        frozen.thaw()
        dead.thaw()
        time.run_until(2.5)
        self.assertEqual(said, ["1", "2"])
        time.run_until_idle()
        self.assertEqual(said, ["1", "2", "3", "moved"])

    def test_drift(self) -> None:
        """A fast clock shows more time and calls earlier; a change does not turn it back."""
        time = VirtualTime()
        fast = time.view(rate=2.0)
        said: list[float] = []
        fast.callLater(4, lambda: said.append(time.now))
        time.run_until(3)
        self.assertEqual(said, [2.0])
        self.assertEqual(fast.seconds(), 6.0)
        fast.set_rate(1.0)
        time.run_until(4)
        self.assertEqual(fast.seconds(), 7.0)

    def test_delayed_call(self) -> None:
        """reset, delay and cancel behave as Twisted's, and fail as Twisted's afterwards."""
        time = VirtualTime()
        said: list[str] = []
        view = time.view()
        moved = view.callLater(1, said.append, "moved")
        moved.reset(2)
        moved.delay(3)
        self.assertEqual(moved.getTime(), 5)
        cancelled = view.callLater(1, said.append, "cancelled")
        cancelled.cancel()
        time.run_until(4.9)
        self.assertEqual(said, [])
        time.run_until(5)
        self.assertEqual(said, ["moved"])
        self.assertRaises(AlreadyCalled, moved.cancel)
        self.assertRaises(AlreadyCancelled, cancelled.cancel)

    def test_looping_call(self) -> None:
        """Twisted's own timers run on it."""
        time, said = VirtualTime(), []
        view = time.view()
        loop = LoopingCall(lambda: said.append(view.seconds()))
        loop.clock = view
        loop.start(0.5, now=False)
        time.run_until(2.2)
        loop.stop()
        self.assertEqual(said, [0.5, 1.0, 1.5, 2.0])
        time.run_until_idle()

    def test_endless_loop(self) -> None:
        """A call that reschedules itself without time moving is told, not run for ever."""
        time = VirtualTime()
        view = time.view()

        def again() -> None:
            view.callLater(0, again)

        again()
        self.assertRaises(AssertionError, time.run_until, 1)
