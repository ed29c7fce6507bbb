"""``--force-new-cluster`` on logs of all kinds."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.alone import members_after, stand_alone
from etcdtw.app.parts import reopen_log
from etcdtw.app.takeover import check_database
from etcdtw.errors import StorageError
from etcdtw.membership import Member, Members, add_change, bootstrap_entries, remove_change
from etcdtw.raft.codec import decode_conf_change, encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.wal import Wal, encode_metadata
from etcdtw.testing.disk import SimDisk
from etcdtw.v2store import V2Store

WAL, SNAP = "/data/member/wal", "/data/member/snap"
OWN_URLS = ("http://m3:2380",)
"""The same as another's."""
MEMBERS = [Member(each, (f"http://m{each}:2380",), f"m{each}") for each in (1, 2, 3)]


def change_entry(index: int, change: ConfChange) -> Entry:
    data = encode_conf_change(change)
    return Entry(term=2, index=index, type=EntryType.CONF_CHANGE, data=data)


class AloneTests(SynchronousTestCase):
    def log_of(self, own: int, *more: Entry, commit: int) -> SimDisk:
        """The log of a founder of three members, with these entries behind."""
        disk = SimDisk()
        disk.makedirs(SNAP)
        entries = [*bootstrap_entries(MEMBERS), *more]
        state = HardState(2, own, commit)
        Wal.create(disk, WAL, encode_metadata(own, 9), state=state, entries=entries).close()
        return disk

    def forced(self, disk: SimDisk, index: int = 0) -> tuple[HardState, list[Entry]]:
        """State and entries of the next start after one that was forced, with a keyspace that
        is as far as this."""
        opened = reopen_log(disk, WAL, SnapStore(disk, SNAP))
        stand_alone(opened, OWN_URLS, index)
        opened.wal.close()
        again = reopen_log(disk, WAL, SnapStore(disk, SNAP))
        again.wal.close()
        self.assertEqual(again.tail.last_index(), opened.tail.last_index())
        return again.tail.initial_state()[0], again.tail.entries(
            1, again.tail.last_index() + 1, None
        )

    def changes(self, entries: Sequence[Entry]) -> list[tuple[ConfChangeType, int]]:
        found = [decode_conf_change(each.data or b"") for each in entries]
        return [(ConfChangeType(each.type), each.node_id) for each in found]

    def test_others_are_removed(self) -> None:
        """The others go, by id; everything in the log is committed."""
        state, entries = self.forced(self.log_of(2, commit=3))
        remove = ConfChangeType.REMOVE_NODE
        self.assertEqual(self.changes(entries[3:]), [(remove, 1), (remove, 3)])
        self.assertEqual(state, HardState(2, 2, 5))

    def test_uncommitted_entries_stay(self) -> None:
        """The commit index on disk lags behind, so entries after it may have been acknowledged."""
        written = Entry(term=2, index=4, data=b"acknowledged")
        state, entries = self.forced(self.log_of(1, written, commit=3))
        self.assertEqual((entries[3], state.commit), (written, 6))

    def test_nothing_in_the_log(self) -> None:
        """Who has joined and heard nobody yet begins as a founder does, in term 1."""
        disk = SimDisk()
        disk.makedirs(SNAP)
        Wal.create(disk, WAL, encode_metadata(9, 9)).close()
        state, entries = self.forced(disk)
        self.assertEqual(state, HardState(1, 0, 2))
        self.assertEqual(
            self.changes(entries), [(ConfChangeType.ADD_NODE, 9), (ConfChangeType.UPDATE_NODE, 9)]
        )

    def test_not_a_member(self) -> None:
        """Who begins with a backup votes before the others go, and gets his URLs afterwards: they
        may be those of one of the others."""
        state, entries = self.forced(self.log_of(9, commit=3))
        self.assertEqual(
            self.changes(entries[3:]),
            [
                (ConfChangeType.ADD_NODE, 9),
                *((ConfChangeType.REMOVE_NODE, each) for each in (1, 2, 3)),
                (ConfChangeType.UPDATE_NODE, 9),
            ],
        )
        self.assertEqual(state.commit, 8)
        members = Members(V2Store(lambda: 0))
        for entry in entries:
            change = decode_conf_change(entry.data or b"")
            self.assertIsNone(members.check(change))
            members.apply(change)
        self.assertEqual(members.all(), [Member(9, OWN_URLS)])

    def test_wrapped_index(self) -> None:
        """A backup of a log that did not say what is committed has an index that wrapped around:
        everything behind the snapshot is applied again, or nothing written later would be."""
        disk = self.log_of(9, commit=0)
        opened = reopen_log(disk, WAL, SnapStore(disk, SNAP))
        self.addCleanup(opened.wal.close)
        wrapped = (1 << 64) - 2
        self.assertEqual(check_database(wrapped, opened, True), opened.snapshot.index)
        self.assertEqual(check_database(2, opened, True), 2)
        self.assertRaises(StorageError, check_database, wrapped, opened, False)

    def test_keyspace_ahead(self) -> None:
        """The log is filled up to a keyspace that counts what was left out of the log."""
        state, entries = self.forced(self.log_of(2, commit=3), 5)
        self.assertEqual([each.data for each in entries[3:5]], [None, None])
        self.assertEqual(
            self.changes(entries[5:]), [(ConfChangeType.REMOVE_NODE, each) for each in (1, 3)]
        )
        self.assertEqual(state.commit, 7)

    def test_learner(self) -> None:
        """A learner becomes the voter that the new cluster needs."""
        learner = Member(4, ("http://m4:2380",), is_learner=True)
        disk = self.log_of(4, change_entry(4, add_change(7, learner)), commit=4)
        _, entries = self.forced(disk)
        self.assertEqual(self.changes(entries[4:5]), [(ConfChangeType.ADD_NODE, 4)])
        self.assertEqual({node for _, node in self.changes(entries[5:])}, {1, 2, 3})

    def test_twice(self) -> None:
        """Nothing is left to do the second time."""
        disk = self.log_of(1, commit=3)
        first, _ = self.forced(disk)
        second, entries = self.forced(disk)
        self.assertEqual((first, len(entries)), (second, 5))

    def test_members_after(self) -> None:
        """The snapshot's configuration counts, and learners are members."""
        state = ConfState(voters=(1, 2), learners=(3,))
        entries = [change_entry(8, remove_change(1, 2))]
        self.assertEqual(members_after(state, entries), {1: False, 3: True})
