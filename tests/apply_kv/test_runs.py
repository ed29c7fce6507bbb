"""Plain puts that are applied together do exactly what they do one by one."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.submit import entry_data
from etcdtw.apply.applier import RUN_MAX
from etcdtw.apply.plain_put import plain_put, plain_put_of_entry
from etcdtw.apply.quota import Quota
from etcdtw.apply.requests import decode_request
from etcdtw.auth import Caller
from etcdtw.errors import UserEmpty
from etcdtw.mvcc.watch_index import Interest
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest
from etcdtw.pb.rpc_pb2 import (
    AlarmRequest,
    AlarmType,
    DeleteRangeRequest,
    LeaseGrantRequest,
    PutRequest,
)
from etcdtw.raft.messages import Entry, EntryType
from tests.apply_kv.test_in_turns import Side

KEYS = (b"a", b"b", b"c", b"k" * 127, b"k" * 128)
VALUES = (b"", b"v", b"v" * 127, b"v" * 300, b"v" * 16384)


class Proposed(NamedTuple):
    kind: str
    request: Any


class Counting(list[Any]):
    """Counts how often one of its items is looked at."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.looks += len(found) if isinstance(place, slice) else 1
        return found


def some_request(dice: Random) -> tuple[str, Any]:
    kind = dice.choices(
        ("put", "put with more", "delete", "lease", "alarm"), (30, 2, 2, 1, dice.randrange(2))
    )[0]
    key = dice.choice(KEYS)
    if kind == "put":
        return "put", PutRequest(key=key, value=dice.choice(VALUES))
    if kind == "put with more":
        return "put", PutRequest(key=key, value=b"x", lease=dice.randrange(3), prev_kv=True)
    if kind == "delete":
        return "delete_range", DeleteRangeRequest(key=key)
    if kind == "lease":
        return "lease_grant", LeaseGrantRequest(ID=dice.randrange(1, 3), TTL=60)
    action = dice.choice((AlarmRequest.ACTIVATE, AlarmRequest.DEACTIVATE))
    return "alarm", AlarmRequest(action=action, memberID=1, alarm=AlarmType.NOSPACE)


class RunTests(SynchronousTestCase):
    """``Applier.apply_run``."""

    def apply_all(self, side: Side, entries: list[Entry], proposed: list[Any]) -> list[object]:
        """As a replica does; counts what went together."""
        results: list[object] = []
        while len(results) < len(entries):
            start = len(results)
            together = side.applier.apply_run(entries, proposed, start)
            self.together += len(together)
            results += together
            if not together:
                results.append(side.applier.apply(entries[start], proposed[start]))
            self.assertEqual(side.applier.applied_index, entries[len(results) - 1].index)
        return results

    def check(self, seed: int, limit_bytes: int) -> None:
        dice = Random(seed)
        one_by_one, together = Side(1000, limit_bytes), Side(1000, limit_bytes)
        watches = [side.watch(Interest(b"a", b"\0")) for side in (one_by_one, together)]
        for _ in range(dice.randrange(1, 6)):
            requests = [some_request(dice) for _ in range(dice.randrange(1, 40))]
            entries = [one_by_one.entry(*each) for each in requests]
            proposed = []
            for kind, request in requests:
                short = plain_put(request.SerializeToString()) if kind == "put" else None
                known = Proposed(kind, request if short is None else short)
                proposed.append(known if dice.randrange(3) else None)
            wanted = [
                one_by_one.applier.apply(*each) for each in zip(entries, proposed, strict=True)
            ]
            got = self.apply_all(together, entries, proposed)
            self.assertEqual(list(map(repr, wanted)), list(map(repr, got)))
            self.assertEqual(one_by_one.records(), together.records())
            self.assertEqual(one_by_one.backend.consistent_index(), (entries[-1].index, 1))
            self.assertEqual(together.backend.consistent_index(), (entries[-1].index, 1))
            self.assertEqual(one_by_one.store.puts, together.store.puts)
            self.assertEqual(one_by_one.store.put_bytes, together.store.put_bytes)
        self.assertEqual(watches[0].batches, watches[1].batches)
        self.assertEqual(one_by_one.applier.times._batch, together.applier.times._batch)

    def test_like_one_by_one(self) -> None:
        """Among other requests, with and without proposals of this member, under alarms and near
        the quota: results, records, watchers' events and counts are equal."""
        self.together = 0
        for seed in range(300):
            self.check(seed, (-1, 0, 20_000, 100_000)[seed % 4])
        self.assertGreater(self.together, 4000)

    def test_bound(self) -> None:
        """So many at most go together."""
        side = Side(1000)
        request = PutRequest(key=b"a", value=b"v")
        entries = [side.entry("put", request) for _ in range(RUN_MAX + 1)]
        self.assertEqual(len(side.applier.apply_run(entries, [None] * len(entries), 0)), RUN_MAX)
        self.assertEqual(side.applier.applied_index, RUN_MAX)

    def test_near_the_quota(self) -> None:
        """Those that might not fit all are applied one by one to their end, and are not gathered
        again before each of them."""
        side = Side(1000, limit_bytes=20_000)
        request = PutRequest(key=b"a", value=b"v" * 300)
        entries = [side.entry("put", request) for _ in range(60)]
        self.assertEqual(side.applier.apply_run(entries[:50], [None] * 50, 0), [])
        side.applier._quota = Quota(side.backend.size, -1)
        for start in range(50):
            self.assertEqual(side.applier.apply_run(entries, [None] * 60, start), [])
            side.applier.apply(entries[start], None)
        self.assertEqual(len(side.applier.apply_run(entries, [None] * 60, 50)), 10)

    def test_among_others(self) -> None:
        """Where every second entry is something else, those that come later are not gathered again
        behind each of them."""
        for own in (False, True):
            side = Side(1000)
            put, other = PutRequest(key=b"a", value=b"v"), PutRequest(key=b"a", prev_kv=True)
            requests = [put, other] * RUN_MAX
            entries = Counting(side.entry("put", each) for each in requests)
            known = [Proposed("put", (b"a", b"v")), Proposed("put", other)] * RUN_MAX
            proposed = Counting(known if own else [None] * len(entries))
            self.together = 0
            self.apply_all(side, entries, proposed)
            self.assertEqual(self.together, RUN_MAX)
            self.assertLess(entries.looks + proposed.looks, 10 * len(entries))

    def test_other_entries(self) -> None:
        """A membership change whose bytes look like a put, and a leader's empty entry, end it."""
        for entry_type, data in ((EntryType.CONF_CHANGE, True), (EntryType.NORMAL, False)):
            side = Side(1000)
            put = side.entry("put", PutRequest(key=b"a", value=b"v"))
            other = put._replace(index=2, type=entry_type, data=put.data if data else None)
            self.assertEqual(len(side.applier.apply_run([put, other], [None, None], 0)), 1)
            self.assertEqual(len(side.applier.apply_run([put, other], [None, None], 1)), 0)

    def test_with_auth(self) -> None:
        """Where permissions count, each is looked at by itself: one that was proposed before they
        did, too."""
        side = Side(1000)
        entry = side.entry("put", PutRequest(key=b"a", value=b"v"))
        side.applier._auth.enabled = True
        self.assertEqual(side.applier.apply_run([entry], [None], 0), [])
        proposed = Proposed("put", (b"a", b"v"))
        refusals = [side.applier.apply(entry, each) for each in (None, proposed)]
        self.assertEqual([str(each) for each in refusals], [str(UserEmpty())] * 2)

    def test_applied_before(self) -> None:
        """What the backend has already is not done again."""
        side = Side(1000)
        entries = [side.entry("put", PutRequest(key=b"a", value=b"v")) for _ in range(3)]
        side.applier.apply_run(entries[:2], [None, None], 0)
        side.start()
        self.assertEqual(side.applier.apply_run(entries, [None] * 3, 0), [])
        self.assertEqual(len(side.applier.apply_run(entries, [None] * 3, 2)), 1)
        self.assertEqual(side.store.revision, 4)


class PlainPutOfEntryTests(SynchronousTestCase):
    """``plain_put_of_entry``."""

    def test_own_entries(self) -> None:
        """It recognises what it should."""
        for key_bytes in (1, 127):
            for value_bytes in (1, 50, 127, 128, 16000):
                put = (b"k" * key_bytes, b"v" * value_bytes)
                raw = PutRequest(key=put[0], value=put[1]).SerializeToString()
                for request_id in (128, 1 << 40, (1 << 64) - 1):
                    data = entry_data("put", raw, request_id)
                    self.assertEqual(plain_put_of_entry(data), put)

    def test_any_bytes(self) -> None:
        """Whatever was changed in an entry, what it recognises decodes to the same put, and to a
        header with an id alone."""
        value = st.sampled_from((b"v", b"v" * 127, b"v" * 130, b"v" * 16384))

        @settings(max_examples=1500, deadline=None, derandomize=True)
        @given(
            st.builds(PutRequest, key=st.sampled_from((b"", b"k", b"k" * 128)), value=value),
            st.integers(128, (1 << 64) - 1),
            st.sampled_from((Caller(b"", 0), Caller(b"root", 3))),
            st.lists(
                st.tuples(
                    st.integers(-20, 20), st.integers(0, 2), st.binary(min_size=0, max_size=3)
                ),
                max_size=2,
            ),
        )
        def check(
            request: PutRequest,
            request_id: int,
            caller: Caller,
            changes: list[tuple[int, int, bytes]],
        ) -> None:
            whole = InternalRaftRequest(put=request)
            whole.header.ID = request_id
            whole.header.username = caller.name
            whole.header.auth_revision = caller.revision
            data = whole.SerializeToString(deterministic=True)
            for place, length, new in changes:
                at = place % len(data)
                data = data[:at] + new + data[at + length :]
            put = plain_put_of_entry(data)
            if put is None:
                return
            kind, decoded = decode_request(data, 1)
            self.assertEqual((kind, decoded), ("put", PutRequest(key=put[0], value=put[1])))
            header = InternalRaftRequest.FromString(data).header
            self.assertEqual((header.username, header.auth_revision), (b"", 0))

        check()

    def test_short(self) -> None:
        """Nothing is read behind the end."""
        data = entry_data(
            "put", PutRequest(key=b"k", value=b"v" * 200).SerializeToString(), 1 << 60
        )
        for end in range(len(data)):
            self.assertIsNone(plain_put_of_entry(data[:end]))
