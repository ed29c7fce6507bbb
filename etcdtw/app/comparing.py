"""The comparisons that a leader makes now and then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from etcdtw.app.assemble import Core
from etcdtw.app.compact_hashes import CompactHashCheck
from etcdtw.app.corruption import check_peers
from etcdtw.peer.calling import HttpCaller

log = Logger(namespace="etcdtw.member")


class CorruptionMonitor:
    """Has ``check`` done every ``seconds`` while this member leads."""

    def __init__(
        self, check: Callable[[], Coroutine[Any, Any, None]], clock: IReactorTime, seconds: float
    ) -> None:
        self._check = check
        self._clock = clock
        self._seconds = seconds
        self._call: IDelayedCall | None = None

    def lead(self) -> None:
        if self._call is None:
            self._wait()

    def follow(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _wait(self) -> None:
        self._call = self._clock.callLater(self._seconds, self._begin)

    def _begin(self) -> None:
        self._wait()
        checked = Deferred.fromCoroutine(self._check())
        checked.addErrback(
            lambda failure: log.warn(
                "failed to check hash KV: {error}", error=failure.getErrorMessage()
            )
        )


def corruption_monitors(core: Core, caller: HttpCaller) -> Iterator[CorruptionMonitor]:
    """Those that the settings ask for."""
    settings = core.settings
    if settings.experimental_corrupt_check_time:
        yield CorruptionMonitor(
            lambda: check_peers(core, caller),
            caller.reactor,
            settings.experimental_corrupt_check_time,
        )
    if settings.experimental_compact_hash_check_enabled:
        yield CorruptionMonitor(
            CompactHashCheck(core, caller).check,
            caller.reactor,
            settings.experimental_compact_hash_check_time,
        )
