"""What a test's log says."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer


@implementer(ILogObserver)
class _Observer:
    def __init__(self, namespace: str | None) -> None:
        self._namespace = namespace
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if self._namespace in (None, event.get("log_namespace")):
            self.events.append(event)


def logged(test: SynchronousTestCase, namespace: str | None = None) -> list[LogEvent]:
    """Filled with what is logged until the test ends, by all or in one namespace."""
    observer = _Observer(namespace)
    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return observer.events
