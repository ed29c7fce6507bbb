"""Automatic compaction, proposed by the leader (``--auto-compaction-mode``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.api.v3.submit import Submitter
from etcdtw.errors import Compacted, EtcdError
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import CompactionRequest

REVISION_CHECK_SECONDS = 300.0
_HOUR = 3600.0
_CHECKS_PER_INTERVAL = 10


class _Compactor:
    """Looks at the revision every ``interval`` seconds and proposes what ``_target`` says."""

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        submitter: Submitter,
        is_leader: Callable[[], bool],
        interval: float,
    ) -> None:
        self._clock = clock
        self._store = store
        self._submitter = submitter
        self._is_leader = is_leader
        self._interval = interval
        self._compacted_to = 0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        self._call = self._clock.callLater(self._interval, self._check)

    def stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _target(self) -> int:
        """The revision to compact to now, 0 for none."""
        raise NotImplementedError

    def _succeeded(self) -> None:
        """A compaction took effect."""

    def _check(self) -> None:
        self.start()
        target = self._target()
        if target <= self._compacted_to or not self._is_leader():
            return
        request = CompactionRequest(revision=target)

        def done(result: object) -> None:
            # Somebody may have been faster; after any other failure the next check tries again.
            if not isinstance(result, EtcdError) or isinstance(result, Compacted):
                self._compacted_to = target
                self._succeeded()

        self._submitter.submit("compaction", request, request.SerializeToString(), done)


class RevisionCompactor(_Compactor):
    """Keeps the last ``retention`` revisions."""

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        submitter: Submitter,
        is_leader: Callable[[], bool],
        retention: int,
    ) -> None:
        super().__init__(clock, store, submitter, is_leader, REVISION_CHECK_SECONDS)
        self._retention = retention

    def _target(self) -> int:
        return self._store.revision - self._retention


class PeriodicCompactor(_Compactor):
    """Keeps the revisions of the last ``period`` seconds.

    Looks ten times per period (per hour for longer ones); compacts the first time after a whole
    period, then at most once per period or hour, whichever is shorter (etcd's rule).
    """

    def __init__(
        self,
        clock: IReactorTime,
        store: Store,
        submitter: Submitter,
        is_leader: Callable[[], bool],
        period: float,
    ) -> None:
        between = min(period, _HOUR)
        super().__init__(clock, store, submitter, is_leader, between / _CHECKS_PER_INTERVAL)
        looks = int(period / (between / _CHECKS_PER_INTERVAL)) + 1
        self._seen: deque[int] = deque([store.revision], maxlen=looks)
        self._between = between
        self._wait = period
        self._last_success = clock.seconds()

    def _target(self) -> int:
        oldest = self._seen[0]
        self._seen.append(self._store.revision)
        if self._clock.seconds() - self._last_success < self._wait:
            return 0
        return oldest

    def _succeeded(self) -> None:
        self._wait = self._between
        self._last_success = self._clock.seconds()
