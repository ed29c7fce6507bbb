"""A cluster driven by the directives of a conversation script.

Each node's Ready is honoured at once: save, apply, send, ``persisted``. Messages in flight are one
ordered list. Nodes are numbered from 1 in the order in which they are added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etcdtw.raft import MemoryLog, ProposalDropped, RaftConfig, RaftNode, Ready
from etcdtw.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    Snapshot,
)
from tests.raft.datadriven import Directive
from tests.raft.printing import (
    describe_entry,
    describe_message,
    describe_ready,
    message_type_name,
)

ELECTION_TICKS = 3
NO_LIMIT = 1 << 40
_CHANGES = {
    "v": ConfChangeType.ADD_NODE,
    "l": ConfChangeType.ADD_LEARNER_NODE,
    "r": ConfChangeType.REMOVE_NODE,
    "u": ConfChangeType.UPDATE_NODE,
}


def parse_changes(text: str) -> list[ConfChange]:
    """``v1 l2 r3 u4``: voter 1, learner 2, remove 3, update 4."""
    return [
        ConfChange(id=0, type=_CHANGES[each[0]], node_id=int(each[1:]), context=None)
        for each in text.split()
    ]


class LeastDice:
    """Always the shortest election timeout."""

    def randrange(self, stop: int, /) -> int:
        return 0


class Member:
    """A node, its disk, and a state machine that concatenates what it applies."""

    def __init__(self, config: RaftConfig, base: Snapshot) -> None:
        self.log = MemoryLog()
        self.log.set_snapshot_source(lambda: self.state)
        self.state = base
        if base.index:
            self.log.apply_snapshot(base)
        self.node = RaftNode(config, self.log, LeastDice())
        self.shown = HardState(self.node.term, self.node.vote, self.node.committed)

    def take(self) -> tuple[Ready, HardState | None, list[Entry], bool] | None:
        """A Ready if there is one, the hard state if it moved, what can be applied once all that is
        saved, and whether it has entries, a term or a vote."""
        node = self.node
        ready = node.take_ready()
        state = HardState(node.term, node.vote, node.committed)
        if ready is None:
            if state == self.shown:
                return None
            ready = Ready()
        must_sync = bool(ready.entries) or state[:2] != self.shown[:2]
        moved = None if state == self.shown else state
        self.shown = state
        committed = list(ready.committed)
        last = committed[-1].index if committed else self.node.applied
        for entry in ready.entries:
            if entry.index == last + 1 and last < self.node.committed:
                committed.append(entry)
                last += 1
        return ready, moved, committed, must_sync

    def save(self, ready: Ready, state: HardState | None) -> None:
        if state is not None:
            self.log.set_hard_state(state)
        if ready.snapshot is not None:
            self.log.apply_snapshot(ready.snapshot)
        self.log.append(ready.entries)

    def apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            conf_state = self.state.conf_state
            data = entry.data or b""
            if entry.type != EntryType.NORMAL:
                for change in parse_changes(data.decode().partition(":")[2]):
                    conf_state = self.node.apply_conf_change(change)
                data = b""
            self.state = Snapshot(
                data=(self.state.data or b"") + data,
                conf_state=conf_state,
                index=entry.index,
                term=entry.term,
            )
        if entries:
            self.node.applied_to(entries[-1].index)


class ScriptCluster:
    """Executes directives; see the module."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.in_flight: list[Message] = []
        self._quiet = False

    def execute(self, directive: Directive) -> str:
        run: Callable[[Directive], list[str]] = getattr(
            self, "do_" + directive.name.replace("-", "_")
        )
        was_quiet = self._quiet
        level = directive.value("log-level", "")
        if level:
            self._quiet = level == "none"
        quiet = self._quiet
        lines = run(directive)
        if level:
            self._quiet = was_quiet
        return "ok" if not lines or quiet else "\n".join(lines)

    def _member(self, directive: Directive) -> Member:
        return self.members[int(directive.words[0]) - 1]

    # --- set-up --------------------------------------------------------------------------------

    def do_log_level(self, directive: Directive) -> list[str]:
        self._quiet = directive.words[0] == "none"
        return []

    def do_add_nodes(self, directive: Directive) -> list[str]:
        index = int(directive.value("index", "0"))
        base = Snapshot(
            data=directive.value("content", "").encode(),
            conf_state=ConfState(
                voters=tuple(map(int, directive.values("voters"))),
                learners=tuple(map(int, directive.values("learners"))),
            ),
            index=index,
            term=1 if index else 0,
        )
        lease = directive.value("read-only", "safe") == "lease-based"
        for _ in range(int(directive.words[0])):
            config = RaftConfig(
                id=len(self.members) + 1,
                election_ticks=ELECTION_TICKS,
                heartbeat_ticks=1,
                max_message_bytes=NO_LIMIT,
                max_committed_bytes=int(
                    directive.value("max-committed-size-per-ready", str(NO_LIMIT))
                ),
                max_inflight_messages=int(directive.value("inflight", str(NO_LIMIT))),
                check_quorum=directive.flag("checkquorum"),
                pre_vote=directive.flag("prevote"),
                read_only="lease" if lease else "safe",
                applied=index,
                step_down_on_removal=directive.flag("step-down-on-removal"),
                disable_conf_change_validation=directive.flag("disable-conf-change-validation"),
            )
            self.members.append(Member(config, base))
        return []

    # --- one node ------------------------------------------------------------------------------

    def do_campaign(self, directive: Directive) -> list[str]:
        self._member(directive).node.campaign()
        return []

    def do_tick_heartbeat(self, directive: Directive) -> list[str]:
        self._member(directive).node.tick()
        return []

    def do_tick_election(self, directive: Directive) -> list[str]:
        for _ in range(ELECTION_TICKS):
            self._member(directive).node.tick()
        return []

    def do_propose(self, directive: Directive) -> list[str]:
        try:
            self._member(directive).node.propose(directive.words[1].encode())
        except ProposalDropped as error:
            return [str(error)]
        return []

    def do_propose_conf_change(self, directive: Directive) -> list[str]:
        version = "v1" if directive.flag("v1") else "v2"
        tokens = " ".join(directive.input_lines).strip()
        change = next(iter(parse_changes(tokens or "u0")))
        try:
            self._member(directive).node.propose_conf_change(f"{version}:{tokens}".encode(), change)
        except ProposalDropped as error:
            return [str(error)]
        return []

    def do_read_index(self, directive: Directive) -> list[str]:
        self._member(directive).node.read_index(directive.words[1].encode())
        return []

    def do_transfer_leadership(self, directive: Directive) -> list[str]:
        giver = self.members[int(directive.value("from", "")) - 1]
        giver.node.transfer_leader(int(directive.value("to", "")))
        return []

    def do_report_unreachable(self, directive: Directive) -> list[str]:
        self._member(directive).node.report_unreachable(int(directive.words[1]))
        return []

    def do_report_snapshot(self, directive: Directive) -> list[str]:
        self._member(directive).node.report_snapshot(
            int(directive.words[1]), ok=not directive.flag("failed")
        )
        return []

    def do_compact(self, directive: Directive) -> list[str]:
        self._member(directive).log.compact(int(directive.words[1]))
        return self.do_raft_log(directive)

    # --- status --------------------------------------------------------------------------------

    def do_raft_log(self, directive: Directive) -> list[str]:
        log = self._member(directive).log
        first, last = log.first_index(), log.last_index()
        if last < first:
            return [f"log is empty: first index={first}, last index={last}"]
        return [describe_entry(each) for each in log.entries(first, last + 1, None)]

    def do_raft_state(self, directive: Directive) -> list[str]:
        lines = []
        for each in self.members:
            node = each.node
            voter = "Voter" if node.id in node.conf_state().voters else "Non-Voter"
            lines.append(
                f"{node.id}: {node.state.value} ({voter}) Term:{node.term} Lead:{node.lead}"
            )
        return lines

    def do_status(self, directive: Directive) -> list[str]:
        progress = self._member(directive).node.progress()
        return [f"{member}: {each}" for member, each in progress.items()]

    # --- turns ---------------------------------------------------------------------------------

    def do_process_ready(self, directive: Directive) -> list[str]:
        lines: list[str] = []
        several = len(directive.words) > 1
        for word in directive.words:
            body = self._process_ready(self.members[int(word) - 1]) or ["Ready MustSync=false:"]
            lines += _block(f"> {word} handling Ready", body) if several else body
        return lines

    def _process_ready(self, member: Member) -> list[str]:
        taken = member.take()
        if taken is None:
            return []
        ready, state, committed, must_sync = taken
        member.save(ready, state)
        member.apply(committed)
        self.in_flight += [*ready.messages, *ready.after_persist]
        member.node.persisted(ready)
        return describe_ready(ready, state, committed, must_sync)

    def do_deliver_msgs(self, directive: Directive) -> list[str]:
        kind = directive.value("type", "")
        lines: list[str] = []
        for name, values in directive.arguments:
            if name == "drop":
                for each in values:
                    lines += self._deliver(int(each), kind, drop=True)
            elif not values:
                lines += self._deliver(int(name), kind)
        return lines or ["no messages"]

    def _deliver(self, to: int, kind: str = "", *, drop: bool = False) -> list[str]:
        def chosen(message: Message) -> bool:
            return message.to == to and kind in ("", message_type_name(message))

        mine = [each for each in self.in_flight if chosen(each)]
        self.in_flight = [each for each in self.in_flight if not chosen(each)]
        lines = []
        for message in mine:
            described = describe_message(message)
            if drop:
                described[0] = f"dropped: {described[0]}"
            lines += described
            if not drop:
                self.members[to - 1].node.step(message)
        return lines

    def do_stabilize(self, directive: Directive) -> list[str]:
        numbers = [int(each) for each in directive.words] or range(1, len(self.members) + 1)
        lines: list[str] = []
        busy = True
        while busy:
            busy = False
            for number in numbers:
                member = self.members[number - 1]
                processed = self._process_ready(member)
                if processed:
                    lines += _block(f"> {number} handling Ready", processed)
                    busy = True
            for number in numbers:
                if any(each.to == number for each in self.in_flight):
                    lines += _block(f"> {number} receiving messages", self._deliver(number))
                    busy = True
        return lines


def _block(title: str, body: list[str]) -> list[str]:
    return [title, *(f"  {each}" for each in body)]
