"""Background work in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from zope.interface import implementer

from etcdtw.errors import StorageError
from etcdtw.storage.interfaces import IWorker
from etcdtw.testing.time import MemberTime

T = TypeVar("T")

_Work = tuple[Callable[[], Any], Callable[[Any], None], Callable[[BaseException], None]]


@implementer(IWorker)
class SimWorker:
    """Work takes ``seconds()`` of virtual time each and is done in order, one at a time.

    The effect of a real system call happens somewhere between its begin and its end;
    ``at_begin()`` says where for each piece of work. Whoever uses the worker must be right with
    both: what was written during a sync need not be in it, and what a sync made durable need not
    be known when the process dies.
    """

    def __init__(
        self,
        clock: MemberTime,
        seconds: Callable[[], float] = lambda: 0.0,
        at_begin: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._at_begin = at_begin
        self._waiting: deque[_Work] = deque()
        self._busy = False
        self._stopped = False
        self._failure: BaseException | None = None
        self.completed = 0

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        assert not self._stopped, "work for a worker that was stopped"
        self._waiting.append((work, done, failed))
        self._begin_next()

    def stop(self) -> None:
        self._stopped = True
        self._waiting.clear()

    def fail_next(self, error: BaseException) -> None:
        """Let the next piece of work that begins fail with ``error``, without being done."""
        self._failure = error

    def _begin_next(self) -> None:
        if self._busy or not self._waiting or self._stopped:
            return
        self._busy = True
        work, done, failed = self._waiting.popleft()
        failure, self._failure = self._failure, None
        if failure is not None:
            self._clock.callLater(self._seconds(), self._end, lambda: failed(failure))
        elif self._at_begin():
            self._clock.callLater(self._seconds(), self._end, _do(work, done, failed))
        else:
            self._clock.callLater(self._seconds(), lambda: self._end(_do(work, done, failed)))

    def _end(self, report: Callable[[], None]) -> None:
        self._busy = False
        self.completed += 1
        if not self._stopped:
            report()
        self._begin_next()


def _do(
    work: Callable[[], T], done: Callable[[T], None], failed: Callable[[BaseException], None]
) -> Callable[[], None]:
    """Do the work now; what is returned reports its outcome."""
    try:
        result = work()
    except (OSError, StorageError) as error:
        problem: Exception = error
        return lambda: failed(problem)
    return lambda: done(result)
