"""Background work in virtual time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.storage.interfaces import IWorker
from etcdtw.testing.time import VirtualTime
from etcdtw.testing.worker import SimWorker


class SimWorkerTests(SynchronousTestCase):
    """A worker whose work takes a second each."""

    def setUp(self) -> None:
        self.time = VirtualTime()
        self.clock = self.time.view()
        self.begins = False
        self.worker = SimWorker(self.clock, lambda: 1.0, lambda: self.begins)
        self.said: list[object] = []

    def run_work(self, name: str) -> None:
        def work() -> str:
            self.said.append(f"does {name}")
            return name

        self.worker.run(work, self.said.append, lambda error: self.said.append(repr(error)))

    def test_interface(self) -> None:
        """It is an IWorker."""
        verifyObject(IWorker, self.worker)

    def test_order(self) -> None:
        """Work is done in the order given, one at a time."""
        self.run_work("a")
        self.run_work("b")
        self.assertEqual(self.said, [])
        self.time.run_until(1.5)
        self.assertEqual(self.said, ["does a", "a"])
        self.time.run_until(2)
        self.assertEqual(self.said, ["does a", "a", "does b", "b"])
        self.assertEqual(self.worker.completed, 2)

    def test_effect_at_begin(self) -> None:
        """Work may take effect at once although its end is only told later."""
        self.begins = True
        self.run_work("a")
        self.assertEqual(self.said, ["does a"])
        self.time.run_until(1)
        self.assertEqual(self.said, ["does a", "a"])

    def test_failures(self) -> None:
        """An OSError of the work, and one that was asked for, are reported at the end."""
        self.worker.fail_next(OSError(5, "chosen"))
        self.run_work("never")

        def broken() -> None:
            raise OSError(28, "full")

        self.worker.run(broken, self.said.append, lambda error: self.said.append(repr(error)))
        self.time.run_until_idle()
        self.assertEqual(self.said, ["OSError(5, 'chosen')", "OSError(28, 'full')"])

    def test_crash(self) -> None:
        """When the process dies, what had not taken effect does not, and nobody is told."""
        self.run_work("a")
        self.run_work("b")
        self.clock.crash()
        self.time.run_until_idle()
        self.assertEqual(self.said, [])

    def test_stop(self) -> None:
        """Nothing that has not begun is done after a stop, and no callback is called."""
        self.run_work("a")
        self.run_work("b")
        self.worker.stop()
        self.time.run_until_idle()
        self.assertEqual(self.said, ["does a"])
