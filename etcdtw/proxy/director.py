"""Endpoints of the v2 proxy: learnt from the cluster again and again, put aside when they fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

FIRST_SECONDS = 1.0
"""Between looks until there is something to see."""

FindUrls = Callable[[], Deferred[Sequence[str]]]
"""Asks the cluster for its client URLs."""

log = Logger(namespace="etcdtw.proxy")


class Director:
    """Knows where requests may go.

    Times in seconds: ``refresh`` between two looks at the cluster, ``failure_wait`` that an
    endpoint is left alone after it failed.
    """

    def __init__(
        self, clock: IReactorTime, find: FindUrls, failure_wait: float, refresh: float
    ) -> None:
        self._clock = clock
        self._find = find
        self._failure_wait = failure_wait
        self._refresh = refresh
        self._failed: dict[str, float] = {}
        self._turn = -1
        self._looking: Deferred[Sequence[str]] | None = None
        self._next: IDelayedCall | None = None
        self.urls: list[str] = []

    def start(self) -> Deferred[None]:
        """Begin to look; fires after the first time, whatever that has found."""
        looked: Deferred[None] = Deferred()
        self._look().addCallback(looked.callback)
        return looked

    def stop(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def endpoints(self) -> list[str]:
        """Those that may be asked now, in the order to ask them: each call begins with another."""
        now = self._clock.seconds()
        found = [url for url in self.urls if self._failed.get(url, 0.0) <= now]
        if not found:
            return []
        self._turn += 1
        at = self._turn % len(found)
        return found[at:] + found[:at]

    def failed(self, url: str) -> None:
        """An endpoint gave no answer."""
        if self._failed.get(url, 0.0) <= self._clock.seconds():
            log.warn("marked endpoint unavailable", endpoint=url)
        self._failed[url] = self._clock.seconds() + self._failure_wait

    def _look(self) -> Deferred[None]:
        self._looking = self._find()
        return self._looking.addCallbacks(self._found, self._not_found)

    def _found(self, urls: Sequence[str]) -> None:
        self._looking = None
        if urls and set(urls) != set(self.urls):
            log.info("endpoints found", endpoints=sorted(urls))
        if urls:
            # Not all proxies should ask the same member first.
            self.urls = random.sample(sorted(urls), len(urls))
            self._failed = {url: end for url, end in self._failed.items() if url in self.urls}
        self._later()

    def _not_found(self, failure: Failure) -> None:
        self._looking = None
        if failure.check(CancelledError):
            return
        log.warn("the cluster does not answer: {error}", error=failure.getErrorMessage())
        self._later()

    def _later(self) -> None:
        seconds = self._refresh if self.urls else min(FIRST_SECONDS, self._refresh)
        self._next = self._clock.callLater(seconds, self._look)
