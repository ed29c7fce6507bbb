"""A replica over a simulated disk, with a machine and peers that only take notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from etcdtw.errors import StorageError
from etcdtw.ids import RequestIds
from etcdtw.raft import MemoryLog, RaftConfig, RaftNode
from etcdtw.raft.messages import (
    ConfChange,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from etcdtw.raft.state_machine import IStateMachine, Proposed, Saved
from etcdtw.replica.durable import DurableLog
from etcdtw.replica.interfaces import NoPeers
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica, ReplicaSettings
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.wal import Wal, WalContents
from etcdtw.testing.disk import SimDisk
from tests.raft.lone_node import FixedDice

OWN, OTHER, THIRD = 1, 2, 3
REQUEST_SECONDS = 2.0
TICK_SECONDS = 0.1


@implementer(IWorker)
class HeldWorker:
    """Work that begins when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def run(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        def do() -> None:
            try:
                result = work()
            except (OSError, StorageError) as error:
                failed(error)
            else:
                done(result)

        self.waiting.append(do)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for do in waiting:
            do()

    def stop(self) -> None:
        self.waiting = []


@implementer(IStateMachine)
class NotingMachine:
    """Remembers what it was given; ``refusal`` voids membership changes."""

    def __init__(self, journal: list[str]) -> None:
        self.applied_index = 0
        self.refusal: Exception | None = None
        self._journal = journal

    def apply_run(
        self, entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
    ) -> Sequence[object]:
        return []

    def apply(self, entry: Entry, proposed: Proposed | None) -> object:
        self.applied_index = entry.index
        if not entry.data:
            return None
        known = "" if proposed is None else f" of {proposed.kind}"
        self._journal.append(f"apply {entry.data.decode()}{known}")
        return f"result of {entry.data.decode()}"

    def check_conf_change(self, change: ConfChange) -> Exception | None:
        return self.refusal

    def apply_conf_change(
        self, entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        self.applied_index = entry.index
        self._journal.append(f"configure {conf_state.voters}")
        return refused

    def begin_save(self) -> Saved:
        return Saved(b"as of %d" % self.applied_index)

    def restore(self, snapshot: Snapshot) -> None:
        self.applied_index = snapshot.index
        self._journal.append(f"restore {snapshot.index}")


class NotingPeers(NoPeers):
    """Keeps what was sent."""

    def __init__(self, journal: list[str]) -> None:
        self.sent: list[Message] = []
        self._journal = journal

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages
        self._journal += [f"send {MessageType(each.type).name} to {each.to}" for each in messages]


class Floor:
    """One replica of ``voters``. With ``on_worker`` every sync waits for ``worker.release``."""

    def __init__(
        self,
        voters: tuple[int, ...] = (OWN,),
        *,
        on_worker: bool = False,
        disk: SimDisk | None = None,
        machine: Callable[[Floor], NotingMachine] | None = None,
        pause_seconds: float = 0.0,
        slow_apply_seconds: float = 0.1,
    ) -> None:
        self.journal: list[str] = []
        self.disk = disk or SimDisk()
        if self.disk.isdir("/wal"):
            wal, found = Wal.open(self.disk, "/wal")
        else:
            wal = Wal.create(self.disk, "/wal", b"meta")
            found = WalContents()
        tail = MemoryLog(found.hard_state, ConfState(voters=voters))
        tail.append(list(found.entries))
        self.clock = Clock()
        self.worker, self.background = HeldWorker(), HeldWorker()
        self.machine = NotingMachine(self.journal) if machine is None else machine(self)
        self.peers = NotingPeers(self.journal)
        self.node = RaftNode(
            RaftConfig(id=OWN, pre_vote=False, check_quorum=False), tail, FixedDice()
        )
        self.durable = DurableLog(
            wal, tail, self.worker, self.background, 0.0 if on_worker else 1000.0
        )
        self.replica = Replica(
            self.node,
            self.durable,
            self.machine,
            self.peers,
            self.clock,
            RequestIds(OWN, 0),
            ReplicaSettings(
                TICK_SECONDS,
                REQUEST_SECONDS,
                turn_seconds=1000.0,
                slow_apply_seconds=slow_apply_seconds,
                pause_seconds=pause_seconds,
            ),
        )
        self.fatal: list[BaseException] = []
        self.replica.on_fatal.append(self.fatal.append)
        self.answers: dict[str, object] = {}

    def start(self) -> None:
        self.replica.start()
        self.settle()

    def settle(self) -> None:
        """Let everything that is due happen; syncs on the worker stay where they are."""
        for _ in range(20):
            self.clock.advance(0)

    def tick(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(TICK_SECONDS)
            self.settle()

    def propose(self, data: str) -> None:
        """The answer will be in ``answers``."""
        proposal = Proposal(
            data.encode(), "put", None, lambda result: self.answers.__setitem__(data, result)
        )
        self.replica.propose(proposal)

    def read(self, name: str) -> None:
        """When the read may run its error, or None, will be in ``answers``."""
        self.replica.read(lambda error: self.answers.__setitem__(name, error))

    def hear(self, kind: MessageType, from_: int = OTHER, **fields: Any) -> None:
        message = Message(type=kind, to=OWN, from_=from_, **{"term": self.node.term, **fields})
        self.replica.receive(message)
        self.settle()

    def lead(self) -> None:
        """Become leader of three by the vote of another."""
        while not self.peers.sent:
            self.tick(1)
            self.finish_syncs()
        self.hear(MessageType.VOTE_RESP)
        self.finish_syncs()
        self.acknowledge()
        self.acknowledge(THIRD)

    def finish_syncs(self) -> None:
        """Let the worker do what is there and what that leads to."""
        while self.worker.waiting:
            self.worker.release()
            self.settle()

    def acknowledge(self, member: int = OTHER) -> None:
        """Another member has everything."""
        self.hear(MessageType.APP_RESP, member, index=self.node.last_index)

    def stored(self) -> tuple[HardState, list[bytes]]:
        """State and data that a process would find now if the power had been cut."""
        copy = self.disk.copy()
        copy.kill()
        _, found = Wal.open(copy, "/wal")
        return found.hard_state, [each.data for each in found.entries if each.data]
