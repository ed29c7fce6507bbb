"""The NOSPACE alarm that this member raises when a request does not fit the quota."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.api.v3.submit import entry_data
from etcdtw.apply.alarms import Alarms
from etcdtw.pb.rpc_pb2 import NOSPACE, AlarmRequest
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica


class NoSpaceAlarm:
    """Raises the alarm once, however many requests find that there is no space meanwhile."""

    def __init__(self, replica: Replica, alarms: Alarms, member_id: int) -> None:
        self._replica = replica
        self._alarms = alarms
        self._member_id = member_id
        self._waiting: list[Callable[[], None]] = []

    def raise_alarm(self, done: Callable[[], None] = lambda: None) -> None:
        """Call ``done`` once this member's alarm is raised, or cannot be for now."""
        if any(each.memberID == self._member_id for each in self._alarms.get(NOSPACE)):
            done()
        else:
            self._propose(done)

    def raise_first(self, done: Callable[[], None]) -> None:
        """The same, unless any member's alarm stands: a request that was refused because of it
        says nothing about this member's space."""
        if self._alarms.get(NOSPACE):
            done()
        else:
            self._propose(done)

    def _propose(self, done: Callable[[], None]) -> None:
        self._waiting.append(done)
        if len(self._waiting) > 1:
            return
        request = AlarmRequest(
            action=AlarmRequest.ACTIVATE, memberID=self._member_id, alarm=NOSPACE
        )
        data = entry_data("alarm", request.SerializeToString(), self._replica.ids.next())
        self._replica.propose(Proposal(data, "alarm", request, self._answered))

    def _answered(self, _: object) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done()
