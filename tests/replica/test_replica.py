"""The driver's duties, over a real core and log with a machine and peers that take notes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import LeaderChanged, Stopped, TimedOut, TooManyRequests
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import ConfChange, ConfChangeType, Entry, Message, MessageType
from etcdtw.replica.proposal import ConfChangeProposal
from etcdtw.replica.replica import APPLY_BACKLOG_MAX, HELD_BYTES_MAX, LOOKS_MAX
from tests.logs import logged
from tests.replica.floor import OTHER, OWN, REQUEST_SECONDS, THIRD, TICK_SECONDS, Floor

ALL = (OWN, OTHER, THIRD)


class LoneTests(SynchronousTestCase):
    def test_leads_at_once(self) -> None:
        """The only voter leads without waiting for an election timeout."""
        floor = Floor()
        leaders: list[int] = []
        floor.replica.on_leader_change.append(leaders.append)
        floor.start()
        self.assertTrue(floor.replica.is_leader)
        self.assertEqual(leaders[-1], OWN)
        self.assertEqual(floor.clock.seconds(), 0)

    def test_answers(self) -> None:
        """A request is answered once with the result of the apply, which knows the proposal."""
        floor = Floor()
        floor.start()
        floor.propose("a")
        floor.propose("b")
        self.assertEqual(floor.answers, {})
        floor.tick(round(REQUEST_SECONDS / TICK_SECONDS) + 1)
        self.assertEqual(floor.answers, {"a": "result of a", "b": "result of b"})
        self.assertEqual(floor.journal[-2:], ["apply a of put", "apply b of put"])

    def test_a_lone_request_waits_for_nobody(self) -> None:
        """One request has its turn as soon as the sockets have been read."""
        floor = Floor()
        floor.start()
        floor.propose("a")
        floor.clock.advance(0)
        self.assertEqual(set(floor.answers), {"a"})

    def test_requests_that_keep_coming_share_a_turn(self) -> None:
        """Several requests wait for a few more looks at the sockets, as long as each look brings
        more, and are then handed to Raft as one batch."""
        floor = Floor()
        floor.start()
        batches: list[int] = []
        propose_batch = floor.node.propose_batch

        def count(datas: list[bytes]) -> None:
            batches.append(len(datas))
            propose_batch(datas)

        floor.node.propose_batch = count  # type: ignore[method-assign]

        def keep_coming(number: int) -> None:
            floor.propose(f"b{number}")
            if not batches:
                floor.clock.callLater(0, keep_coming, number + 1)

        floor.propose("a")
        keep_coming(0)
        floor.clock.advance(0)
        self.assertEqual(batches[0], LOOKS_MAX + 2)
        floor.settle()
        batches.clear()
        floor.propose("c")
        floor.propose("d")
        floor.clock.advance(0)
        self.assertEqual(batches, [2])

    def note_syncs(self, floor: Floor) -> None:
        """Have each sync of the floor's disk in its journal, with how many were answered."""

        def note(number: int, name: str, path: str) -> None:
            if "sync" in name:
                floor.journal.append(f"sync, {len(floor.answers)} answered")

        floor.disk.fail_when(note)

    def test_applied_while_the_disk_writes(self) -> None:
        """A sync in the turn overlaps with the apply, but no answer overtakes it."""
        floor = Floor()
        floor.start()
        self.note_syncs(floor)
        floor.journal.clear()
        floor.propose("a")
        floor.propose("b")
        floor.settle()
        self.assertEqual(floor.journal, ["apply a of put", "apply b of put", "sync, 0 answered"])
        self.assertEqual(set(floor.answers), {"a", "b"})

    def test_no_promise_before_the_sync(self) -> None:
        """What a follower has accepted, and whom it voted for, leaves after the sync."""
        floor = Floor((OWN, OTHER, THIRD))
        floor.start()
        self.note_syncs(floor)
        floor.journal.clear()
        floor.hear(MessageType.VOTE, term=2, index=9, log_term=1)
        floor.hear(MessageType.APP, term=2, entries=[Entry(2, 1, data=b"a")], commit=1)
        self.assertEqual(
            floor.journal,
            [
                "sync, 0 answered",
                f"send VOTE_RESP to {OTHER}",
                "apply a",
                "sync, 0 answered",
                f"send APP_RESP to {OTHER}",
            ],
        )

    def test_sync_before_answer(self) -> None:
        """Nothing is applied or answered before the sync that makes it durable has ended, where
        that runs on the worker."""
        floor = Floor(on_worker=True)
        floor.start()
        floor.finish_syncs()
        floor.propose("a")
        floor.settle()
        self.assertEqual(floor.answers, {})
        floor.propose("b")  # while the sync of the first is under way
        floor.settle()
        floor.worker.release()
        floor.settle()
        self.assertEqual(floor.answers, {"a": "result of a"})
        floor.worker.release()
        floor.settle()
        self.assertEqual(set(floor.answers), {"a", "b"})

    def test_failed_sync(self) -> None:
        """A failed sync is fatal, inline or on the worker: nobody is answered with success, the
        callers are told, what was applied meanwhile is of no use, and whatever comes later is
        refused."""
        for on_worker in (False, True):
            floor = Floor(on_worker=on_worker)
            floor.start()
            floor.finish_syncs()
            floor.disk.fail_when(
                lambda number, name, path: OSError(5, "gone") if "sync" in name else None
            )
            floor.propose("a")
            floor.settle()
            floor.worker.release()
            floor.settle()
            floor.propose("b")
            floor.read("c")
            floor.tick(3)
            self.assertEqual([type(error) for error in floor.fatal], [OSError])
            self.assertEqual({type(each) for each in floor.answers.values()}, {Stopped})
            self.assertEqual(set(floor.answers), {"a", "b", "c"})
            if on_worker:
                self.assertNotIn("apply a of put", floor.journal)
            self.assertEqual(floor.clock.getDelayedCalls(), [])

    def test_failing_machine(self) -> None:
        """An error of the state machine ends the member; it does not escape into the reactor."""
        floor = Floor()
        floor.start()

        def fail(entry: Entry, proposed: object) -> object:
            raise ValueError("a bug")

        floor.machine.apply = fail  # type: ignore[method-assign]
        floor.propose("a")
        floor.settle()
        self.assertEqual([str(error) for error in floor.fatal], ["a bug"])
        self.assertIsInstance(floor.answers["a"], Stopped)

    def test_reads(self) -> None:
        """A lone leader that has applied everything reads at once; who asked before there was a
        leader is told that the leader changed, as by etcd."""
        floor = Floor()
        floor.replica.start()
        floor.read("early")
        self.assertEqual(floor.answers, {})
        floor.settle()
        self.assertIsInstance(floor.answers["early"], LeaderChanged)
        floor.read("now")
        self.assertIs(floor.answers["now"], None)

    def test_restart(self) -> None:
        """A restart applies in order what was committed, nobody waiting for it."""
        floor = Floor()
        floor.start()
        for name in "abc":
            floor.propose(name)
        floor.settle()
        floor.replica.stop()
        again = Floor(disk=floor.disk)
        again.start()
        self.assertEqual(again.journal, ["apply a", "apply b", "apply c"])
        self.assertGreater(again.node.term, floor.node.term)

    def test_stop(self) -> None:
        """Stopping answers whoever waits, keeps what was synced, closes the log, and leaves no
        call behind; stopping twice is harmless."""
        floor = Floor(on_worker=True)
        floor.start()
        floor.propose("a")
        floor.read("r")
        floor.replica.stop()
        floor.replica.stop()
        self.assertEqual({type(each) for each in floor.answers.values()}, {Stopped})
        self.assertEqual(set(floor.answers), {"a", "r"})
        self.assertEqual(floor.clock.getDelayedCalls(), [])
        floor.worker.release()
        floor.settle()
        self.assertEqual(floor.fatal, [])

    def test_commit_index_is_flushed(self) -> None:
        """The commit index reaches the log with the next tick, and needs no sync of its own."""
        floor = Floor()
        floor.start()
        floor.propose("a")
        floor.settle()
        committed = floor.node.committed
        self.assertLess(floor.stored()[0].commit, committed)
        floor.tick(1)
        self.assertEqual(floor.stored()[0].commit, committed)

    def test_backlog(self) -> None:
        """While far more is committed than applied, new requests are refused at once."""
        floor = Floor()
        floor.start()
        applied = floor.machine.applied_index
        floor.machine.applied_index = floor.node.committed - APPLY_BACKLOG_MAX - 1
        floor.tick(1)
        floor.propose("a")
        self.assertIsInstance(floor.answers["a"], TooManyRequests)
        floor.machine.applied_index = applied
        floor.tick(1)
        floor.propose("b")
        floor.settle()
        self.assertEqual(floor.answers["b"], "result of b")

    def test_held_back(self) -> None:
        """While the keyspace's disk is too far behind, new requests wait; they go on in their
        order, time out as ever, and are refused when too many bytes of them wait."""
        floor = Floor()
        floor.start()
        floor.replica.holds_back = lambda: True
        for name in ("late", "a", "b"):
            floor.propose(name)
            floor.settle()
            if name == "late":
                floor.tick(int(REQUEST_SECONDS / TICK_SECONDS) - 1)
        self.assertEqual(floor.answers, {})
        floor.tick(3)
        self.assertIsInstance(floor.answers.pop("late"), TimedOut)
        floor.replica.holds_back = lambda: False
        floor.replica.wake()
        floor.settle()
        self.assertEqual(floor.answers, {"a": "result of a", "b": "result of b"})
        floor.replica.holds_back = lambda: True
        large = "x" * (HELD_BYTES_MAX // 2)
        for name in ("c", "d" + large, "e" + large):
            floor.propose(name)
            floor.settle()
        self.assertIsInstance(floor.answers["e" + large], TooManyRequests)
        floor.replica.holds_back = lambda: False
        floor.replica.wake()
        floor.settle()
        self.assertEqual(floor.answers["c"], "result of c")

    def test_held_back_for_too_long(self) -> None:
        """What has timed out is not counted any more: others take its place."""
        floor = Floor()
        floor.start()
        floor.replica.holds_back = lambda: True
        large = "x" * (HELD_BYTES_MAX // 2)
        for name in "ab":
            floor.propose(name + large)
            floor.settle()
        self.assertEqual(list(floor.answers), ["b" + large])
        floor.tick(int(REQUEST_SECONDS / TICK_SECONDS) + 1)
        self.assertIsInstance(floor.answers["a" + large], TimedOut)
        floor.propose("c" + large)
        floor.settle()
        self.assertNotIn("c" + large, floor.answers)
        floor.replica.holds_back = lambda: False
        floor.replica.wake()
        floor.settle()
        self.assertEqual(floor.answers["c" + large], f"result of c{large}")

    def test_leading_once_per_term(self) -> None:
        """``on_leading`` runs when the first own entry of the term is applied, once, and
        ``on_term`` before it."""
        floor = Floor()
        seen: list[str] = []
        floor.replica.on_term.append(lambda term: seen.append(f"term {term}"))
        floor.replica.on_leading.append(lambda: seen.append("leading"))
        floor.start()
        floor.propose("a")
        floor.tick(30)
        self.assertEqual(seen, ["term 1", "leading"])


class ThreeTests(SynchronousTestCase):
    def leader(self, on_worker: bool = False) -> Floor:
        floor = Floor(ALL, on_worker=on_worker)
        floor.start()
        floor.lead()
        self.assertTrue(floor.replica.is_leader)
        floor.journal.clear()
        return floor

    def test_vote_waits_for_the_disk(self) -> None:
        """A vote leaves after it is durable, and not at all when the disk fails."""
        floor = Floor(ALL, on_worker=True)
        floor.start()
        floor.hear(MessageType.VOTE, term=3, index=0, log_term=0)
        self.assertEqual(floor.journal, [])
        floor.worker.release()
        floor.settle()
        self.assertEqual(floor.journal, ["send VOTE_RESP to 2"])
        self.assertEqual(floor.stored()[0][:2], (3, OTHER))
        floor.hear(MessageType.VOTE, term=4, index=0, log_term=0, from_=THIRD)
        floor.disk.fail_when(lambda number, name, path: OSError(5, "gone"))
        floor.worker.release()
        floor.settle()
        self.assertEqual(floor.journal, ["send VOTE_RESP to 2"])
        self.assertEqual(len(floor.fatal), 1)

    def test_acknowledgement_waits_for_the_disk(self) -> None:
        """A follower acknowledges entries after they are durable, and applies what the leader
        has committed in order."""
        floor = Floor(ALL, on_worker=True)
        floor.start()
        entries = [Entry(1, 1, data=b"a"), Entry(1, 2, data=b"b")]
        floor.hear(MessageType.APP, term=1, entries=entries, commit=1)
        self.assertEqual(floor.journal, [])
        for _ in range(2):
            floor.worker.release()
            floor.settle()
        self.assertEqual(floor.journal, ["send APP_RESP to 2", "apply a"])
        self.assertEqual(floor.stored()[1], [b"a", b"b"])
        floor.hear(MessageType.HEARTBEAT, term=1, commit=2)
        self.assertIn("apply b", floor.journal)

    def test_commit_index_of_replaced_entries(self) -> None:
        """While entries wait for a sync another leader may replace them and commit: the log, which
        still has the old ones, must not call those committed."""
        floor = Floor(ALL, on_worker=True)
        floor.start()
        floor.hear(MessageType.APP, term=1, entries=[Entry(1, 1, data=b"a")])
        floor.finish_syncs()
        old, new = Entry(1, 2, data=b"old"), Entry(2, 2, data=b"new")
        floor.hear(MessageType.APP, index=1, log_term=1, entries=[old], commit=1)
        floor.hear(MessageType.APP, THIRD, term=2, index=1, log_term=1, entries=[new], commit=2)
        floor.tick(1)
        self.assertEqual((floor.stored()[0].commit, floor.stored()[1]), (1, [b"a", b"old"]))
        floor.finish_syncs()
        floor.tick(1)
        self.assertEqual((floor.stored()[0].commit, floor.stored()[1]), (2, [b"a", b"new"]))
        self.assertEqual(floor.journal[-1], "apply new")

    def test_leader_sends_first(self) -> None:
        """A leader's entries may leave before its own disk has them, but are applied only when a
        majority has them."""
        floor = self.leader(on_worker=True)
        floor.propose("a")
        floor.settle()
        self.assertEqual(floor.journal, ["send APP to 2", "send APP to 3"])
        self.assertEqual(len(floor.worker.waiting), 1)
        floor.acknowledge()
        self.assertEqual(floor.answers, {})
        floor.finish_syncs()
        self.assertEqual(floor.answers, {"a": "result of a"})

    def test_without_leader(self) -> None:
        """Without a leader requests wait and are told so in the end; those that are still in
        time go to the leader when there is one."""
        floor = Floor(ALL)
        floor.node.tick = lambda: None  # type: ignore[method-assign]
        floor.start()
        floor.propose("early")
        floor.read("read")
        floor.tick(round(REQUEST_SECONDS / TICK_SECONDS) - 2)
        floor.propose("late")
        floor.tick(5)
        self.assertIsInstance(floor.answers["early"], TimedOut)
        self.assertIsInstance(floor.answers["read"], TimedOut)
        self.assertNotIn("late", floor.answers)
        floor.hear(MessageType.HEARTBEAT, term=1)
        forwarded = [each for each in floor.peers.sent if each.type == MessageType.PROP]
        self.assertEqual([[e.data for e in each.entries] for each in forwarded], [[b"late"]])

    def test_read_round(self) -> None:
        """A leader of several confirms by a round of heartbeats that it still leads before it
        lets anybody read; all who wait share the round."""
        floor = self.leader()
        for name in "ab":
            floor.read(name)
        floor.settle()
        self.assertEqual(floor.journal, ["send HEARTBEAT to 2", "send HEARTBEAT to 3"])
        self.assertEqual(floor.answers, {})
        floor.hear(MessageType.HEARTBEAT_RESP, context=floor.peers.sent[-1].context)
        self.assertEqual(floor.answers, {"a": None, "b": None})

    def test_leader_changes(self) -> None:
        """When the leader changes, a read under way is told so; ``on_following`` runs once."""
        floor = self.leader()
        stops: list[str] = []
        floor.replica.on_following.append(lambda: stops.append("following"))
        floor.read("r")
        floor.settle()
        floor.hear(MessageType.HEARTBEAT, term=floor.node.term + 1)
        floor.hear(MessageType.HEARTBEAT)
        self.assertIsInstance(floor.answers["r"], LeaderChanged)
        self.assertEqual(stops, ["following"])
        self.assertFalse(floor.replica.is_leader)

    def test_late_heartbeats(self) -> None:
        """A leader whose tick comes later than another interval counts and tells that; a follower
        has nobody to be late for."""
        floor = self.leader()
        said = logged(self, "etcdtw.replica")
        floor.clock.advance(1.5 * TICK_SECONDS)
        self.assertEqual((floor.replica.counts.late_heartbeats, said), (0, []))
        floor.clock.advance(3.5 * TICK_SECONDS)
        self.assertEqual(floor.replica.counts.late_heartbeats, 1)
        self.assertEqual(said[0]["exceeded_duration"], "150.000ms")
        floor.hear(MessageType.HEARTBEAT, term=floor.node.term + 1)
        floor.clock.advance(3 * TICK_SECONDS)
        self.assertEqual(floor.replica.counts.late_heartbeats, 1)

    def test_void_change(self) -> None:
        """A committed membership change that the machine refuses leaves the voters as they are;
        its caller gets the refusal."""
        for refusal in (None, ValueError("not now")):
            floor = self.leader()
            floor.machine.refusal = refusal
            change = ConfChange(7, ConfChangeType.REMOVE_NODE, THIRD)
            answers: list[object] = []
            floor.replica.propose(
                ConfChangeProposal(encode_conf_change(change), "change", change, answers.append)
            )
            floor.settle()
            floor.acknowledge()
            self.assertEqual(answers, [refusal])
            voters = (OWN, OTHER) if refusal is None else ALL
            self.assertEqual(floor.node.conf_state().voters, voters)
            self.assertIn(f"configure {voters}", floor.journal)

    def test_bad_message(self) -> None:
        """What no peer may send is dropped; after the end nothing is heard."""
        floor = self.leader()
        floor.hear(MessageType.HUP)
        self.assertEqual(floor.fatal, [])
        floor.replica.stop()
        floor.hear(MessageType.HEARTBEAT, term=99)
        self.assertLess(floor.node.term, 99)

    def test_contradicting_message(self) -> None:
        """A message that the core cannot go on from ends the member, as it does etcd, instead of
        the connection that it came by, which would be there again at once."""
        floor = self.leader()
        contradiction = AssertionError("entry 7 conflicts with one that was committed")

        def step(message: Message) -> None:
            raise contradiction

        self.patch(floor.node, "step", step)
        floor.hear(MessageType.HEARTBEAT, term=99)
        self.assertEqual(floor.fatal, [contradiction])
