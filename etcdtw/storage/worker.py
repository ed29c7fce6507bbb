"""Two ways to provide ``IWorker``: one thread, and no thread at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from etcdtw.storage.interfaces import IWorker

T = TypeVar("T")


@implementer(IWorker)
class ThreadWorker:
    """One thread, begun with the first task, that does blocking system calls in the order given.

    It is a daemon thread: a hung disk must not keep a dying process alive.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str = "worker") -> None:
        self._call_from_thread = reactor.callFromThread
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._stopped = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._is_begun = False

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        assert not self._stopped, "work given to a stopped worker"

        def task() -> None:
            if self._stopped:
                return
            try:
                result = work()
            except BaseException as error:  # the caller, not this thread, knows what it means
                self._call_from_thread(self._report, failed, error)
            else:
                self._call_from_thread(self._report, done, result)

        self._queue.put(task)
        if not self._is_begun:
            self._is_begun = True
            self._thread.start()

    def _report(self, callback: Callable[[Any], None], value: Any) -> None:
        if not self._stopped:
            callback(value)

    def stop(self) -> None:
        self._stopped = True
        self.finish()

    def finish(self) -> None:
        """Stop once all that was given is done; nobody is told of it any more."""
        if self._is_begun:
            self._queue.put(None)
            self._thread.join()
        self._stopped = True

    def _loop(self) -> None:
        while (task := self._queue.get()) is not None:
            task()


@implementer(IWorker)
class InlineWorker:
    """Does the work at once on the calling thread, reporting before ``run`` returns."""

    def __init__(self) -> None:
        self._stopped = False

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        assert not self._stopped, "work given to a stopped worker"
        try:
            result = work()
        except BaseException as error:  # the same contract as a thread's
            failed(error)
        else:
            done(result)

    def stop(self) -> None:
        self._stopped = True
