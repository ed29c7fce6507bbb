"""Everything that goes wrong in a simulated world, drawn from a seed."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable

from etcdtw.errors import EtcdError
from etcdtw.membership import add_change, promote_change, remove_change
from etcdtw.raft.codec import encode_conf_change
from etcdtw.raft.messages import ConfChange
from etcdtw.replica.proposal import ConfChangeProposal
from etcdtw.testing.cluster import Condition, SimCluster, SimMember
from etcdtw.testing.network import Weather

FAULT_PAUSE_SECONDS = 0.7
"""From one fault to the next, on average."""

DYING_SECONDS = 1.0
"""Longer than any disk operation takes."""

MEMBERS_MIN, MEMBERS_MAX = 3, 5
"""Between these, members come and go."""

OTHERS_MIN = 4
"""They have to elect without the one whose disk is stuck."""
STUCK_SECONDS = (4.0, 6.0)
ALONE_SECONDS = 0.3
OVERTAKEN_SECONDS = 0.4
"""Long enough for entries to arrive and for a tick."""

LOOK_SECONDS = 0.001
"""How often a fault looks whether its moment has come."""

_Undo = Callable[[], None]


class Faults:
    """Breaks something every now and then, and repairs it a while later.

    ``counts`` has how often each fault happened. ``only`` restricts the kinds by name.
    """

    def __init__(self, cluster: SimCluster, only: frozenset[str] | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._dice = cluster.dice("faults")
        self._clock = cluster.time.view()
        self._changes = 0
        kinds: dict[str, Callable[[], _Undo | None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "power cut": self._power_cut,
            "power cut of all": self._power_cut_all,
            "frozen member": self._freeze,
            "partition": self._partition,
            "leader isolated": self._isolate_leader,
            "one-way cut": self._one_way_cut,
            "pair cut": self._pair_cut,
            "upset election": self._upset_election,
            "power cut at answer": self._power_cut_at_answer,
            "overtaken disk": self._overtaken_disk,
            "bad weather": self._bad_weather,
            "slow disk": self._slow_disk,
            "failing sync": self._failing_sync,
            "full disk": self._full_disk,
            "clock drift": self._clock_drift,
            "leader transfer": self._transfer,
            "member added": self._add_member,
            "member removed": self._remove_member,
            "learner promoted": self._promote,
        }
        self._kinds = {name: kind for name, kind in kinds.items() if not only or name in only}
        assert self._kinds, f"no fault is called {only}"

    def start(self) -> None:
        self._schedule()

    def heal_all(self) -> None:
        """Break nothing more and repair everything: all run, and are fast and connected."""
        self._clock.crash()
        self._cluster.on_new_leader.clear()
        self._cluster.on_acknowledged.clear()
        self._cluster.trace.add("world", "heals")
        self._cluster.network.heal()
        for member in self._cluster.members.values():
            member.disk.heal()
            member.set_condition(Condition())
            member.thaw()
            member.boot()
        # A member may still be about to die of an error that its disk gave before it was healed.
        self._cluster.time.view().callLater(DYING_SECONDS, self._cluster.boot_all)

    def _schedule(self) -> None:
        self._clock.callLater(self._dice.expovariate(1 / FAULT_PAUSE_SECONDS), self._strike)

    def _strike(self) -> None:
        name = self._dice.choice(list(self._kinds))
        lasts = min(5.0, self._dice.expovariate(1.0))
        if name in ("upset election", "overtaken disk"):
            lasts += 3.0  # an election takes one to two seconds, and some need two
        undo = self._kinds[name]()
        if undo is not None:
            self.counts[name] += 1
            self._cluster.trace.add("world", name)
            self._clock.callLater(lasts, undo)
        self._schedule()

    def _anyone(self) -> SimMember:
        return self._cluster.members[self._dice.choice(self._cluster.ids)]

    # --- processes and machines ----------------------------------------------------------------

    def _kill(self) -> _Undo | None:
        # Where there are large entries, every other time when one of them is half applied.
        if self._cluster.parts.keys and not self.counts["kill"] % 2:
            return self._kill_amid_large_entry()
        return self._crash([self._anyone()], power=False)

    def _stop(self) -> _Undo | None:
        """One ends in order, and writes to its log what it knows by then."""
        return self._down([self._anyone()], SimMember.stop)

    def _power_cut(self) -> _Undo | None:
        return self._crash([self._anyone()], power=True)

    def _power_cut_all(self) -> _Undo | None:
        return self._crash(self._cluster.up(), power=True)

    def _crash(self, members: list[SimMember], power: bool) -> _Undo | None:
        return self._down(members, lambda member: member.crash(power))

    def _down(self, members: list[SimMember], end: Callable[[SimMember], None]) -> _Undo | None:
        members = [each for each in members if each.is_up]
        for member in members:
            end(member)

        def undo() -> None:
            for member in members:
                member.disk.heal()
                member.boot()

        return undo if members else None

    def _freeze(self) -> _Undo | None:
        """A process that gets no processor for a while, half the time the leader's: it goes on
        with what it knew, before it reads what it has missed."""
        leader = self._cluster.leader()
        member = leader if leader and self._dice.random() < 0.5 else self._anyone()
        if not member.is_up:
            return None
        member.freeze()
        return member.thaw

    # --- disks and clocks ----------------------------------------------------------------------

    def _slow_disk(self) -> _Undo:
        return self._condition(Condition(disk_seconds=(0.05, 0.8)))

    def _clock_drift(self) -> _Undo:
        return self._condition(Condition(clock_rate=self._dice.choice((0.5, 0.8, 1.25, 2.0))))

    def _condition(self, condition: Condition) -> _Undo:
        member = self._anyone()
        member.set_condition(condition)
        return lambda: member.set_condition(Condition())

    def _failing_sync(self) -> _Undo | None:
        return self._break_disk("sync_data", errno.EIO)

    def _full_disk(self) -> _Undo | None:
        return self._break_disk("pwrite", errno.ENOSPC)

    def _break_disk(self, operation: str, error_number: int) -> _Undo | None:
        """Every such operation of a member's disk fails; its process is to die of the first."""
        member = self._anyone()
        if not member.is_up:
            return None

        def fault(_: int, name: str, path: str) -> OSError | None:
            if name != operation:
                return None
            return OSError(error_number, f"{operation} fails by intent", path)

        member.disk.fail_when(fault)

        def undo() -> None:
            member.disk.heal()
            member.boot()

        return undo

    # --- the network ---------------------------------------------------------------------------

    def _partition(self) -> _Undo | None:
        ids = list(self._cluster.ids)
        self._dice.shuffle(ids)
        side = self._dice.randrange(1, len(ids)) if len(ids) > 1 else 0
        return self._cut([(a, b) for a in ids[:side] for b in ids[side:]], both_ways=True)

    def _isolate_leader(self) -> _Undo | None:
        leader = self._cluster.leader()
        if leader is None:
            return None
        others = [each for each in self._cluster.ids if each != leader.id]
        return self._cut([(leader.id, each) for each in others], both_ways=True)

    def _one_way_cut(self) -> _Undo | None:
        return self._cut([self._pair()], both_ways=False)

    def _pair_cut(self) -> _Undo | None:
        return self._cut([self._pair()], both_ways=True)

    def _pair(self) -> tuple[int, int]:
        sender, receiver = self._anyone(), self._anyone()
        return sender.id, receiver.id

    def _cut(self, pairs: list[tuple[int, int]], both_ways: bool) -> _Undo | None:
        network = self._cluster.network
        pairs = [(a, b) for a, b in pairs if a != b]
        if both_ways:
            pairs = pairs + [(b, a) for a, b in pairs]
        for pair in pairs:
            network.cut(*pair)

        def undo() -> None:
            for pair in pairs:
                network.mend(*pair)

        return undo if pairs else None

    def _bad_weather(self) -> _Undo:
        network, dice = self._cluster.network, self._dice
        network.weather = Weather(
            drop=dice.choice((0.0, 0.05, 0.3)),
            duplicate=dice.choice((0.0, 0.1)),
            slow=dice.choice((0.0, 0.1)),
            delay_max=dice.choice((0.002, 0.05, 0.3)),
            # Some come when who sent them, or is to get them, has begun another life or term.
            delay_slow=dice.choice((0.5, 5.0)),
        )

        def undo() -> None:
            network.weather = Weather()

        return undo

    # --- the worst moment ----------------------------------------------------------------------

    def _upset_election(self) -> _Undo | None:
        """The leader restarts while two members do not hear each other; whoever wins the next
        election is cut off at that moment, before its first entry arrives anywhere, and all who
        voted for it restart. What a vote promises must outlast that."""
        leader = self._cluster.leader()
        undo_pair = self._pair_cut()
        if leader is None or undo_pair is None:
            return undo_pair
        leader.crash(power=True)
        leader.boot()
        undos = [undo_pair]

        def upset(winner: SimMember) -> None:
            self._cluster.on_new_leader.remove(upset)
            others = [each for each in self._cluster.members.values() if each is not winner]
            undo_cut = self._cut([(winner.id, each.id) for each in others], both_ways=True)
            undos.extend([undo_cut] if undo_cut else [])
            for each in others:
                if each.life is not None and each.life.node.vote == winner.id:
                    each.crash(power=True)
                    each.boot()

        self._cluster.on_new_leader.append(upset)

        def undo() -> None:
            if upset in self._cluster.on_new_leader:
                self._cluster.on_new_leader.remove(upset)
            for each in undos:
                each()

        return undo

    def _power_cut_at_answer(self) -> _Undo:
        """All members lose power in the moment in which a client hears that its write is safe."""
        undos: list[_Undo] = []

        def cut() -> None:
            undo = self._power_cut_all()
            undos.extend([undo] if undo else [])

        def answered() -> None:
            self._cluster.on_acknowledged.remove(answered)
            self._clock.callLater(0, cut)  # not from within a member's turn

        self._cluster.on_acknowledged.append(answered)

        def undo_all() -> None:
            if answered in self._cluster.on_acknowledged:
                self._cluster.on_acknowledged.remove(answered)
            for each in undos:
                each()

        return undo_all

    def _overtaken_disk(self) -> _Undo | None:
        """A follower's disk is stuck with entries that only its leader sent; a leader that the
        others elect replaces them in its memory, and then it loses power. What its disk holds by
        then is not to be taken for committed."""
        leader = self._cluster.leader()
        others = [each for each in self._cluster.up() if each is not leader]
        if leader is None or len(others) < OTHERS_MIN:
            return None
        stuck = others.pop(self._dice.randrange(len(others)))
        stuck.set_condition(Condition(disk_seconds=STUCK_SECONDS))
        undos = [self._cut([(leader.id, each.id) for each in others], both_ways=True)]

        def cut_off() -> None:
            undos.append(self._cut([(leader.id, stuck.id)], both_ways=True))

        def overtake(winner: SimMember) -> None:
            self._cluster.on_new_leader.remove(overtake)
            self._clock.callLater(OVERTAKEN_SECONDS, lose_power)

        def lose_power() -> None:
            if stuck.is_up:
                stuck.crash(power=True)
                stuck.boot()

        self._clock.callLater(ALONE_SECONDS, cut_off)
        self._cluster.on_new_leader.append(overtake)

        def undo() -> None:
            if overtake in self._cluster.on_new_leader:
                self._cluster.on_new_leader.remove(overtake)
            stuck.set_condition(Condition())
            for each in undos:
                if each is not None:
                    each()

        return undo

    def _kill_amid_large_entry(self) -> _Undo:
        """The next member that has half applied an entry that takes several turns ends, for a
        while."""

        def look() -> None:
            busy = [
                each
                for each in self._cluster.up()
                if each.life is not None and each.life.replica.applies_in_turns
            ]
            undo = self._crash(busy[:1], power=False)
            if undo is None:
                self._clock.callLater(LOOK_SECONDS, look)
            else:
                self._clock.callLater(self._dice.random(), undo)

        look()
        return lambda: None

    # --- requests of an operator ---------------------------------------------------------------

    def _transfer(self) -> _Undo | None:
        leader = self._cluster.leader()
        if leader is None or leader.life is None:
            return None
        leader.life.replica.transfer_leader(self._dice.choice(self._cluster.ids))
        return lambda: None

    def _add_member(self) -> _Undo | None:
        """A new voter or learner, which starts once the cluster has taken it."""
        if len(self._cluster.current_ids()) >= MEMBERS_MAX:
            return None
        learner = self._dice.random() < 0.5
        leader = self._cluster.leader()
        if leader is None:
            return None
        member = self._cluster.add_member(learner)
        newcomer = self._cluster.members[member.id]

        def done(result: object) -> None:
            if not isinstance(result, EtcdError):
                self._clock.callLater(self._dice.random(), newcomer.boot)

        return self._change(leader, add_change(self._next_id(), member), done)

    def _remove_member(self) -> _Undo | None:
        """One goes, as long as three stay."""
        ids = self._cluster.current_ids()
        leader = self._cluster.leader()
        if len(ids) <= MEMBERS_MIN or leader is None:
            return None
        return self._change(leader, remove_change(self._next_id(), self._dice.choice(ids)))

    def _promote(self) -> _Undo | None:
        leader = self._cluster.leader()
        if leader is None or leader.life is None:
            return None
        learners = [each.id for each in leader.life.machine.members.all() if each.is_learner]
        if not learners:
            return None
        return self._change(leader, promote_change(self._next_id(), learners[0]))

    def _next_id(self) -> int:
        self._changes += 1
        return self._changes

    def _change(
        self,
        leader: SimMember,
        change: ConfChange,
        done: Callable[[object], None] = lambda _: None,
    ) -> _Undo | None:
        # Operators ask any member, and what a follower forwards may come late, or never.
        life = self._anyone().life or leader.life
        if life is None:
            return None
        data = encode_conf_change(change)
        life.replica.propose(ConfChangeProposal(data, "conf_change", change, done))
        return lambda: None
