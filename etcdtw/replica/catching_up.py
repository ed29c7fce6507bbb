"""Which entries are kept for members that are being sent a snapshot."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.replica.durable import DurableLog

LINGER_SECONDS = 30.0
"""From the arrival of a snapshot until the member that got it has surely begun with the entries
behind it (etcd's time)."""


class CatchingUp:
    """Keeps what lies behind a snapshot that is on its way: were it forgotten before the member has
    installed that, another snapshot would have to follow, and so on for as long as others write."""

    def __init__(
        self, durable: DurableLog, clock: IReactorTime, linger_seconds: float = LINGER_SECONDS
    ) -> None:
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._behind: dict[int, int] = {}
        self._letting_go: dict[int, IDelayedCall] = {}
        durable.needed_from = lambda: min(self._behind.values(), default=None)

    def begin(self, member_id: int, index: int) -> None:
        """A snapshot at ``index`` is being sent; it takes the place of an earlier one."""
        self._cancel(member_id)
        self._behind[member_id] = index

    def end(self, member_id: int, ok: bool) -> None:
        """It has arrived, or will not."""
        self._cancel(member_id)
        if ok:
            self._letting_go[member_id] = self._clock.callLater(
                self._linger_seconds, self._let_go, member_id
            )
        else:
            self._behind.pop(member_id, None)

    def stop(self) -> None:
        for member_id in list(self._letting_go):
            self._cancel(member_id)

    def _let_go(self, member_id: int) -> None:
        del self._letting_go[member_id]
        self._behind.pop(member_id, None)

    def _cancel(self, member_id: int) -> None:
        call = self._letting_go.pop(member_id, None)
        if call is not None:
            call.cancel()
