"""Commands of ``etcdtw ctl`` that call others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def finish(reactor: Any, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the reactor until the work is done; what comes of it, or what it raises."""
    results: list[T | Failure] = []

    def begin() -> None:
        done = Deferred.fromCoroutine(work())
        done.addBoth(results.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    if not results:
        sys.exit(130)  # by Ctrl-C
    found = results[0]
    if isinstance(found, Failure):
        found.raiseException()
    return found
