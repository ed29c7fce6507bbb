"""What a leader looks at now and then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from etcdtw.app.assemble import Core
from etcdtw.app.compact_hashes import CompactHashCheck
from etcdtw.app.corruption import check_peers
from etcdtw.app.downgrading import end_downgrade
from etcdtw.peer.calling import HttpCaller

log = Logger(namespace="etcdtw.member")


class LeaderCheck:
    """Has ``check`` done every ``seconds`` while this member leads; ``failure`` is what the log
    says of one that raises."""

    def __init__(
        self,
        check: Callable[[], Coroutine[Any, Any, None]],
        failure: str,
        clock: IReactorTime,
        seconds: float,
    ) -> None:
        self._check = check
        self._failure = failure
        self._clock = clock
        self._seconds = seconds
        self._call: IDelayedCall | None = None
        self._is_under_way = False

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
        if self._is_under_way:
            return  # of a large keyspace it may take longer than from one to the next
        self._is_under_way = True
        checked = Deferred.fromCoroutine(self._check())
        checked.addErrback(
            lambda failure: log.warn(
                "{what}: {error}", what=self._failure, error=failure.getErrorMessage()
            )
        )
        checked.addCallback(self._checked)

    def _checked(self, _: object) -> None:
        self._is_under_way = False


def leader_checks(core: Core, caller: HttpCaller) -> Iterator[LeaderCheck]:
    """Those that the settings ask for."""
    settings, clock = core.settings, caller.reactor
    if settings.experimental_corrupt_check_time:
        seconds = settings.experimental_corrupt_check_time
        yield LeaderCheck(
            lambda: check_peers(core, caller), "failed to check hash KV", clock, seconds
        )
    if settings.experimental_compact_hash_check_enabled:
        seconds = settings.experimental_compact_hash_check_time
        check = CompactHashCheck(core, caller).check
        yield LeaderCheck(check, "failed to check hashes of compactions", clock, seconds)
    if settings.experimental_downgrade_check_time:
        seconds = settings.experimental_downgrade_check_time
        yield LeaderCheck(lambda: end_downgrade(core), "failed to cancel downgrade", clock, seconds)
