"""Raised alarms: which member reports which trouble, kept in the ``alarm`` bucket."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.mvcc.interfaces import IBackend
from etcdtw.pb.rpc_pb2 import CORRUPT, NONE, NOSPACE, AlarmMember, AlarmRequest, AlarmType

_BUCKET = b"alarm"
_KNOWN = (NOSPACE, CORRUPT)


def alarm_name(alarm: int) -> str:
    """A type of alarm as Go prints it: by its number where this version does not know it."""
    return AlarmType.Name(alarm) if alarm in AlarmType.values() else str(alarm)


class Alarms:
    """The alarms of the cluster. An alarm is identified by member and type."""

    def __init__(self, backend: IBackend) -> None:
        self._backend = backend
        self._raised: dict[tuple[int, int], AlarmMember] = {}
        self.on_change: list[Callable[[AlarmMember, bool], None]] = []
        """Called with an alarm, and whether it is raised now."""
        for key, _ in backend.scan(_BUCKET, b"", None):
            member = AlarmMember.FromString(key)
            self._raised[member.memberID, member.alarm] = member

    @property
    def no_space(self) -> bool:
        return any(alarm == NOSPACE for _, alarm in self._raised)

    @property
    def corrupt(self) -> bool:
        return any(alarm == CORRUPT for _, alarm in self._raised)

    def get(self, alarm: int = NONE) -> list[AlarmMember]:
        """Raised alarms of one type, or all of them for ``NONE``, by member id."""
        return [
            member
            for (_, raised), member in sorted(self._raised.items())
            if alarm in (NONE, raised)
        ]

    def apply(self, request: AlarmRequest) -> list[AlarmMember]:
        """Carry out a replicated alarm request; the alarms that it concerns.

        Activating one that is already raised answers with it; clearing one that is not answers
        with nothing, as etcd does.
        """
        if request.action == AlarmRequest.GET:
            return self.get(request.alarm)
        identity = (request.memberID, request.alarm)
        member = AlarmMember(memberID=request.memberID, alarm=request.alarm)
        if request.action == AlarmRequest.ACTIVATE:
            if request.alarm == NONE:
                return []
            if identity not in self._raised:
                self._raised[identity] = member
                self._backend.put(_BUCKET, member.SerializeToString(), b"")
                self._changed(member, True)
            return [member]
        if request.action == AlarmRequest.DEACTIVATE and identity in self._raised:
            del self._raised[identity]
            self._backend.delete(_BUCKET, member.SerializeToString())
            self._changed(member, False)
            return [member]
        return []

    def _changed(self, member: AlarmMember, is_raised: bool) -> None:
        for each in self.on_change:
            each(member, is_raised)
