"""What is told of leaders, members and alarms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.telling import membership_teller, tell_alarms, tell_leaders
from etcdtw.apply.alarms import Alarms
from etcdtw.membership import (
    Member,
    Members,
    add_change,
    promote_change,
    remove_change,
    update_change,
)
from etcdtw.pb.rpc_pb2 import NOSPACE, AlarmRequest
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.v2store import V2Store
from tests.logs import logged


class LeaderTests(SynchronousTestCase):
    def test_words(self) -> None:
        """Each change has its sentence, ids without zeros in front."""
        node = SimpleNamespace(id=0x0A, term=2)
        replica: Any = SimpleNamespace(node=node, on_leader_change=[])
        tell_leaders(replica)
        said = logged(self, "etcdtw.raft")
        for term, leader in ((2, 0xB), (3, 0xC), (4, 0), (5, 0xA)):
            node.term = term
            for each in replica.on_leader_change:
                each(leader)
        self.assertEqual(
            [formatEvent(each) for each in said],
            [
                "raft.node: a elected leader b at term 2",
                "raft.node: a changed leader from b to c at term 3",
                "raft.node: a lost leader c at term 4",
                "a became leader at term 5",
                "raft.node: a elected leader a at term 5",
            ],
        )


class MemberTests(SynchronousTestCase):
    def test_course(self) -> None:
        """A learner is added, promoted, moved and removed, each time with its URLs."""
        members = Members(V2Store(lambda: 0))
        tell = membership_teller(members, 1, 2)
        said = logged(self, "etcdtw.member")
        first, second = ("http://a:1",), ("http://b:1",)
        learner = Member(5, first, is_learner=True)
        for change in (
            add_change(1, learner),
            promote_change(2, 5),
            update_change(3, Member(5, second)),
            remove_change(4, 5),
        ):
            members.apply(change)
            tell(change)
        self.assertEqual(
            [each["log_format"] for each in said],
            ["added member", "promote member", "updated member", "removed member"],
        )
        self.assertEqual(said[0]["added_peer_peer_urls"], first)
        self.assertEqual(said[1]["promoted_member_id"], "5")
        self.assertEqual(said[2]["updated_remote_peer_urls"], second)
        self.assertEqual(said[3]["removed_remote_peer_urls"], second)
        ids = {(each["cluster_id"], each["local_member_id"]) for each in said}
        self.assertEqual(ids, {("1", "2")})


class AlarmTests(SynchronousTestCase):
    def test_once(self) -> None:
        """An alarm is told when it comes and when it goes, not each time it is asked for."""
        alarms = Alarms(MemoryBackend())
        tell_alarms(alarms)
        said = logged(self, "etcdtw.member")
        for action in (AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE):
            for _ in range(2):
                alarms.apply(AlarmRequest(action=action, memberID=10, alarm=NOSPACE))
        self.assertEqual(
            [(each["log_format"], each["alarm"], each["from"]) for each in said],
            [("alarm raised", "NOSPACE", "a"), ("alarm disarmed", "NOSPACE", "a")],
        )

    def test_unknown(self) -> None:
        """One that this version has no name for is told by its number."""
        alarms = Alarms(MemoryBackend())
        tell_alarms(alarms)
        said = logged(self, "etcdtw.member")
        alarms.apply(AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=10, alarm=7))  # type: ignore[arg-type]
        self.assertEqual([each["alarm"] for each in said], ["7"])
