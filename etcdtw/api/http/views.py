"""What the HTTP resources show, taken from the rooms that know it."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.apply.alarms import Alarms, alarm_name
from etcdtw.errors import EtcdError
from etcdtw.membership import Members
from etcdtw.replica.replica import Replica


class MemberHealth:
    """The health of this member: alarms, leader, and whether a linearizable read succeeds."""

    def __init__(self, replica: Replica, alarms: Alarms) -> None:
        self._replica = replica
        self._alarms = alarms

    def raised_alarms(self) -> list[str]:
        return [alarm_name(each.alarm) for each in self._alarms.get()]

    def has_leader(self) -> bool:
        return self._replica.leader != 0

    def read(self, waiter: Callable[[EtcdError | None], None]) -> None:
        self._replica.read(waiter)


class MemberCluster:
    """The cluster as this member knows it."""

    def __init__(self, cluster_id: int, members: Members) -> None:
        self.cluster_id = cluster_id
        self._members = members

    def version(self) -> str | None:
        return self._members.version

    def members_json(self) -> list[str]:
        return [each.json() for each in self._members.all()]
