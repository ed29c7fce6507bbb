"""Replicated lease requests."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply.header import HeaderSource
from etcdtw.errors import LeaseExists, LeaseNotFound
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor
from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseCheckpointResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
)
from etcdtw.storage.backend.memory import MemoryBackend


class ApplyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.lessor = Lessor(self.backend, 2)
        self.store = Store(self.backend, self.lessor)
        self.changes: list[tuple[int, list[Change]]] = []
        self.store.on_change.append(lambda revision, all: self.changes.append((revision, all)))
        self.applier = LeaseApplier(self.lessor, self.store, HeaderSource(1, 2, 3), lambda: 0.0)

    def test_grant(self) -> None:
        """The answer has the id, the raised TTL and the store's revision; twice is refused."""
        answer = LeaseGrantResponse.FromString(self.applier.grant(LeaseGrantRequest(ID=5)))
        self.assertEqual((answer.ID, answer.TTL), (5, 2))
        self.assertEqual((answer.header.cluster_id, answer.header.revision), (1, 1))
        self.assertRaises(LeaseExists, self.applier.grant, LeaseGrantRequest(ID=5))

    def test_revoke(self) -> None:
        """A lease takes all its keys along in one revision, in bytewise order; keys that moved
        to another lease or lost theirs stay."""
        self.applier.grant(LeaseGrantRequest(ID=5, TTL=9))
        self.applier.grant(LeaseGrantRequest(ID=6, TTL=9))
        for key in (b"c", b"a", b"b", b"moved", b"freed"):
            self.store.put_one(key, b"1", 5)
        self.store.put_one(b"moved", b"2", 6)
        self.store.put_one(b"freed", b"2", 0)
        before = self.store.revision
        answer = LeaseRevokeResponse.FromString(self.applier.revoke(LeaseRevokeRequest(ID=5)))
        self.assertEqual(answer.header.revision, before + 1)
        revision, changes = self.changes[-1]
        self.assertEqual(revision, before + 1)
        self.assertEqual([each.key for each in changes], [b"a", b"b", b"c"])
        self.assertTrue(all(each.is_delete for each in changes))
        self.assertEqual(self.lessor.keys(6), [b"moved"])
        self.assertRaises(LeaseNotFound, self.applier.revoke, LeaseRevokeRequest(ID=5))

    def test_revoke_without_keys(self) -> None:
        """A lease without keys makes no revision."""
        self.applier.grant(LeaseGrantRequest(ID=5, TTL=9))
        self.applier.revoke(LeaseRevokeRequest(ID=5))
        self.assertEqual(self.store.revision, 1)

    def test_checkpoint(self) -> None:
        """A checkpoint is remembered; for a lease that is gone it is an error."""
        self.applier.grant(LeaseGrantRequest(ID=5, TTL=900))
        request = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=5, remaining_TTL=7)])
        LeaseCheckpointResponse.FromString(self.applier.checkpoint(request))
        self.lessor.promote(0, 0)
        self.assertEqual(self.lessor.remaining(5, 0), 7)
        request = LeaseCheckpointRequest(checkpoints=[LeaseCheckpoint(ID=9)])
        self.assertRaises(LeaseNotFound, self.applier.checkpoint, request)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("pdr"), st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 2)
            ),
            max_size=30,
        )
    )
    def test_keys_follow_the_store(self, steps: list[tuple[str, bytes, int]]) -> None:
        """A lease holds exactly the keys whose newest record names it, also after a restart."""
        backend = MemoryBackend()
        lessor = Lessor(backend, 2)
        store = Store(backend, lessor)
        applier = LeaseApplier(lessor, store, HeaderSource(1, 2, 3), lambda: 0.0)
        lease_of: dict[bytes, int] = {}
        for name, key, lease in steps:
            if lease and not lessor.exists(lease):
                applier.grant(LeaseGrantRequest(ID=lease, TTL=9))
            if name == "p":
                store.put_one(key, b"", lease)
                lease_of[key] = lease
            elif name == "d":
                txn = store.write()
                txn.delete_range(key)
                txn.end()
                lease_of.pop(key, None)
            elif lease:
                applier.revoke(LeaseRevokeRequest(ID=lease))
                lease_of = {each: of for each, of in lease_of.items() if of != lease}
        restarted = Lessor(backend, 2)
        Store(backend, restarted)
        for one in (lessor, restarted):
            for lease in (1, 2):
                self.assertEqual(
                    one.keys(lease), sorted(each for each, of in lease_of.items() if of == lease)
                )
