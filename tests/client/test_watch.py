"""Watches over lost connections, members that die, slow owners and compactions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from etcdtw.client import Client, Watch, WatchCompacted
from etcdtw.client import watch as watch_module
from etcdtw.errors import Code, StatusError, WatchCanceled
from etcdtw.pb.kv_pb2 import Event
from etcdtw.pb.rpc_pb2 import PutRequest, WatchResponse
from etcdtw.rpc import ClientPortFactory, Router, ServerSettings, StreamCall
from tests.client.servers import PORT, Servers


class WatchTestCase(Servers):
    def write(self, count: int = 1, key: bytes = b"k") -> None:
        """As other clients do, with the revision as value."""
        for _ in range(count):
            value = b"%d" % (self.member.store.revision + 1)
            self.member.kv.put(PutRequest(key=key, value=value))

    def created(self, client: Client, key: str = "k", **options: object) -> Watch:
        watch = client.watch(key, **options)  # type: ignore[arg-type]
        self.result(watch.when_created())
        return watch

    def taken(self, watch: Watch) -> list[int]:
        """Revisions of the events that are there."""
        self.run_for(1)
        if not watch.queued:
            return []
        return revisions(self.result(watch.next_events()))


def talk(call: StreamCall, answers: Sequence[bytes]) -> None:
    """As soon as somebody asks."""

    def asked(body: bytes) -> None:
        for each in answers:
            call.send(each)

    call.on_message = asked


def revisions(events: list[Event]) -> list[int]:
    return [each.kv.mod_revision for each in events]


class WatchTests(WatchTestCase):
    def test_events(self) -> None:
        """Events of the key come in order; a confirmed watch misses nothing."""
        watch = self.created(self.client())
        self.write(3)
        self.write(1, b"other")
        self.write(2)
        self.assertEqual(self.taken(watch), [2, 3, 4, 6, 7])
        self.assertEqual(watch.next_revision, 8)

    def test_nonsense(self) -> None:
        """A server whose answers are none, or to what nobody asked, is left for another one."""
        created = WatchResponse(created=True, watch_id=1).SerializeToString()
        for answers in ([b"\xff\xff\xff", b"\xff"], [created, created]):
            router = Router()
            router.add_stream("/etcdserverpb.Watch/Watch", partial(talk, answers=answers))
            self.down("a")
            factory = ClientPortFactory(router, None, ServerSettings(), self.clock)
            self.network.listen("a", PORT, factory)
            watch = self.created(self.client("a", "b"))
            self.run_for(1)
            self.write(1)
            self.assertEqual(self.taken(watch)[-1:], [self.member.store.revision])

    def test_iteration(self) -> None:
        """``async for`` gives event by event."""
        watch = self.created(self.client())

        async def first(count: int) -> list[int]:
            found = []
            async for event in watch:
                found.append(event.kv.mod_revision)
                if len(found) == count:
                    return found
            return found

        self.write(5)
        self.assertEqual(self.result(first(3)), [2, 3, 4])
        self.assertEqual(self.result(first(2)), [5, 6])

    def test_from_the_past(self) -> None:
        """``start_revision`` may lie in the past."""
        self.write(5)
        self.assertEqual(self.taken(self.created(self.client(), start_revision=3)), [3, 4, 5, 6])

    def test_options(self) -> None:
        """Fields of the create request are options."""
        watch = self.created(self.client(), "k", prefix=True, prev_kv=True)
        self.write(2, b"k1")
        self.run_for(1)
        events = self.result(watch.next_events())
        self.assertEqual([each.prev_kv.value for each in events], [b"", b"2"])

    def test_member_dies(self) -> None:
        """What is written while nobody is connected is not missed, and nothing comes twice."""
        watch = self.created(self.client())
        self.write(2)
        self.run_for(1)
        self.down("a")
        self.write(3)
        self.assertEqual(self.taken(watch), [2, 3, 4, 5, 6])
        self.write(1)
        self.assertEqual(self.taken(watch), [7])

    def test_dies_before_an_event(self) -> None:
        """A watch that has got no event yet goes on from its creation."""
        watch = self.created(self.client())
        self.down("a")
        self.down("b")
        self.write(1)
        self.assertEqual(self.taken(watch), [2])

    def test_stream_ended_by_the_server(self) -> None:
        """A stream that the server ends is opened again elsewhere."""
        watch = self.created(self.client())
        for stream in list(self.member.watches.streams):
            stream.end(StatusError(Code.UNAVAILABLE, "etcdserver: no leader"))
        self.write(2)
        self.assertEqual(self.taken(watch), [2, 3])

    def test_compacted(self) -> None:
        """Events that are gone end the watch, with the revision from which there are any."""
        self.write(5)
        client = self.client()
        self.result(client.kv.compact(4))
        watch = client.watch("k", start_revision=2)
        error = self.error(watch.next_events(), WatchCompacted)
        self.assertEqual(error.compact_revision, 4)
        self.error(watch.next_events(), WatchCompacted)

    def test_compacted_while_away(self) -> None:
        """So does a compaction that happened while it was not connected."""
        client = self.client()
        watch = self.created(client)
        for host in self.hosts:
            self.down(host)
        self.write(5)
        self.member.store.compact(4)
        self.up("b")
        self.error(watch.next_events(), WatchCompacted)

    def test_refused(self) -> None:
        """A range that cannot be watched is refused by name."""
        watch = self.client().watch("k", range_end=b"a")
        self.assertIn("range is empty", str(self.error(watch.next_events(), StatusError)))

    def test_cancel(self) -> None:
        """Its owner may end it; others go on."""
        client = self.client()
        watch, other = self.created(client), self.created(client)
        waiting = watch.next_events()
        watch.cancel()
        self.error(waiting, WatchCanceled)
        self.write(1)
        self.assertEqual(self.taken(other), [2])
        self.assertEqual(self.member.hub.watchers, 1)
        other.cancel()
        self.run_for(1)
        self.assertEqual(self.member.hub.watchers, 0)
        self.assertFalse(self.member.watches.streams)

    def test_closed(self) -> None:
        """Closing the client ends its watches."""
        client = self.client()
        watch = self.created(client)
        waiting = watch.next_events()
        client.close()
        self.error(waiting, WatchCanceled)

    def test_many(self) -> None:
        """Watches share a stream, and each gets its own events."""
        client = self.client()
        watches = [client.watch(f"k{number}") for number in range(50)]
        self.run_for(1)
        for number in range(50):
            self.write(1, b"k%d" % number)
        for number, watch in enumerate(watches):
            self.assertEqual(self.taken(watch), [2 + number])
        self.assertEqual(len(self.member.watches.streams), 1)

    def test_slow_owner(self) -> None:
        """Events that nobody takes do not pile up: the watch is left on the server and taken up
        again where it was."""
        self.patch(watch_module, "QUEUE_EVENTS_MAX", 10)
        client = self.client()
        watch = self.created(client)
        for _ in range(30):
            self.write(1)
            self.run_for(0.1)
        self.assertLess(watch.queued, 20)
        self.assertEqual(self.member.hub.watchers, 0)
        found: list[int] = []
        while events := self.taken(watch):
            found += events
        self.assertEqual(found, list(range(2, 32)))

    def test_progress(self) -> None:
        """A quiet watch keeps up with the revision, so that a compaction does not end it."""
        client = self.client()
        watch = self.created(client, "quiet", progress_notify=True)
        self.write(5)
        self.run_for(5)
        self.assertEqual(watch.next_revision, 7)
        self.member.store.compact(6)
        self.down("a")
        self.write(1, b"quiet")
        self.assertEqual(self.taken(watch), [7])


class CampaignTests(WatchTestCase):
    def test_nothing_lost_nothing_twice(self) -> None:
        """Whatever happens to members, connections and links: every event once, in order."""
        for seed in range(20):
            self.seed = f"watch/{seed}"
            Servers.setUp(self)
            self._campaign(random.Random(self.seed))

    def _campaign(self, dice: random.Random) -> None:
        client = self.client()
        watch = client.watch("k", prefix=True)
        self.result(watch.when_created())
        first = self.member.store.revision + 1
        is_up = dict.fromkeys(self.hosts, True)
        found: list[int] = []
        for _ in range(60):
            fault = dice.random()
            host = dice.choice(self.hosts)
            if fault < 0.2:
                self.network.reset(host)
            elif fault < 0.4:
                self.down(host) if is_up[host] else self.up(host)
                is_up[host] = not is_up[host]
            elif fault < 0.5:
                self.network.cut(host, "client")
            elif fault < 0.6:
                self.network.mend()
            self.write(dice.randrange(4), b"k%d" % dice.randrange(3))
            self.run_for(dice.choice((0.001, 0.01, 0.1, 3.0)))
            if dice.random() < 0.5 and watch.queued:
                found += revisions(self.result(watch.next_events()))
        self.network.mend()
        for host, up in is_up.items():
            if not up:
                self.up(host)
        self.run_for(120)
        if watch.queued:
            found += revisions(self.result(watch.next_events()))
        self.assertEqual(found, list(range(first, self.member.store.revision + 1)), self.seed)
        client.close()
