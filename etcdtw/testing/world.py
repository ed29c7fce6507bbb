"""A simulated world: a cluster, clients and faults from one seed, and a verdict."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from etcdtw.testing.cluster import MemberParts, SimCluster
from etcdtw.testing.cluster_machine import LedgerMachine
from etcdtw.testing.linearizability import NEVER
from etcdtw.testing.world_clients import SimClient
from etcdtw.testing.world_faults import Faults

SLICE_SECONDS = 0.05
"""How often a running world is asked whether something was violated."""

RECOVERY_SECONDS = 15.0
"""Virtual time after healing in which a leader must be found and everybody must catch up."""


OPERATIONS_MIN = 200
"""With fewer answered requests a world proves little."""


@dataclass(frozen=True)
class WorldSettings:
    """``size`` members (0: 1, 3 or 5, by seed) and ``clients``, ``fault_seconds`` of virtual time
    with faults (``faults`` restricts their kinds), then healing."""

    size: int = 0
    clients: int = 4
    fault_seconds: float = 15.0
    faults: frozenset[str] | None = None
    parts: MemberParts = field(default_factory=MemberParts)


@dataclass
class Report:
    """The outcome of one world of ``size`` members at its start. No ``violations``: all held."""

    seed: int
    settings: WorldSettings
    size: int
    violations: list[str]
    trace_digest: str
    trace_tail: list[str]
    faults: Counter[str]
    requests: Counter[str]
    messages: Counter[str]
    rare: Counter[str]
    entries: int
    leaders: int
    virtual_seconds: float

    @property
    def counts(self) -> bool:
        """Whether enough happened for its passing to mean something."""
        operations = self.requests["writes acknowledged"] + self.requests["reads answered"]
        return operations >= OPERATIONS_MIN and self.leaders > 1 and self.faults.total() > 0

    @property
    def replay_command(self) -> str:
        """Shows this world again. Planted bugs and a choice of faults have no option there."""
        parts = self.settings.parts
        kind = "streams" if parts.streams else "etcd" if parts.keys else "v2"
        command = f"python -m etcdtw.testing --seed {self.seed} --kind {kind}"
        if self.settings.size != WorldSettings.size:
            command += f" --size {self.settings.size}"
        if self.settings.fault_seconds != WorldSettings.fault_seconds:
            command += f" --seconds {self.settings.fault_seconds:g}"
        return command


def run_world(seed: int, settings: WorldSettings | None = None) -> Report:
    """Run one world to its end, or to the first violation. The same seed gives the same report,
    in any process."""
    settings = settings or WorldSettings()
    world = _World(seed, settings)
    try:
        world.run()
    except Exception as error:  # whatever escapes from a member is this seed's finding
        world.cluster.checkers.violated("our own bugs", f"a timer or message raised {error!r}")
        for line in traceback.format_exc().splitlines():
            world.cluster.trace.add("world", line)
    return world.report()


class _World:
    def __init__(self, seed: int, settings: WorldSettings) -> None:
        self.seed = seed
        self.settings = settings
        # Three is what most people run, and leaves the least room for a mistake.
        self.size = settings.size or (3, 3, 3, 5, 5, 1)[seed % 6]
        self.cluster = SimCluster(seed, self.size, settings.parts)
        self.requests: Counter[str] = Counter()
        self.faults = Faults(self.cluster, settings.faults)
        self.clients = [
            SimClient(self.cluster, number, self.requests)
            for number in range(1, settings.clients + 1)
        ]

    def run(self) -> None:
        self.cluster.boot_all()
        for client in self.clients:
            client.start()
        self.faults.start()
        if not self._live(self.settings.fault_seconds):
            return
        self.faults.heal_all()
        acknowledged = self.requests["writes acknowledged"]
        if not self._live(RECOVERY_SECONDS * 2 / 3):
            return
        if self.requests["writes acknowledged"] == acknowledged:
            self._violated_progress("no write was acknowledged after everything was healed")
            return
        for client in self.clients:
            client.stop()
        if self._live(RECOVERY_SECONDS / 3):
            self._finish()

    def _live(self, seconds: float) -> bool:
        """Go on for a while; False once something was violated."""
        end = self.cluster.time.now + seconds
        while self.cluster.time.now < end:
            self.cluster.time.run_until(min(end, self.cluster.time.now + SLICE_SECONDS))
            if self.cluster.checkers.violations:
                return False
        return True

    def _violated_progress(self, what: str) -> None:
        states = [
            f"{each.id}: {each.life.node.state.value} term {each.life.node.term}"
            if each.life
            else f"{each.id}: down"
            for each in self.cluster.members.values()
        ]
        self.cluster.checkers.violated("progress", f"{what} ({', '.join(states)})")

    def _finish(self) -> None:
        """Compare all who are members now; who was removed may have missed the end."""
        machines: dict[int, LedgerMachine] = {}
        for identity in self.cluster.current_ids():
            life = self.cluster.members[identity].life
            if life is None:
                self._violated_progress(f"{identity} is a member and does not run")
                return
            machines[identity] = life.machine
        self.cluster.checkers.finished(machines)
        history = self.cluster.history
        for write, asked in self.cluster.writes_under_way.values():
            history.wrote(write.kind, write.request, asked, NEVER, None)
        for contradiction in history.contradictions():
            self.cluster.checkers.violated("linearizability", contradiction)

    def report(self) -> Report:
        cluster = self.cluster
        committed = cluster.checkers.committed
        return Report(
            seed=self.seed,
            settings=self.settings,
            size=self.size,
            violations=cluster.checkers.violations,
            trace_digest=cluster.trace.digest(),
            trace_tail=list(cluster.trace.tail),
            faults=self.faults.counts,
            requests=self.requests,
            messages=cluster.network.counts,
            rare=cluster.rare,
            entries=len(committed),
            leaders=cluster.checkers.leaders,
            virtual_seconds=cluster.time.now,
        )
