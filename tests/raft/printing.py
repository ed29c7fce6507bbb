"""The text forms of messages, entries and Readies in conversation scripts."""

from __future__ import annotations

from collections.abc import Sequence

from etcdtw.raft import Ready
from etcdtw.raft.messages import (
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    Snapshot,
)

_WORDS = {
    "APP": "App",
    "APP_RESP": "AppResp",
    "HEARTBEAT": "Heartbeat",
    "HEARTBEAT_RESP": "HeartbeatResp",
    "PRE_VOTE": "PreVote",
    "PRE_VOTE_RESP": "PreVoteResp",
    "PROP": "Prop",
    "READ_INDEX": "ReadIndex",
    "READ_INDEX_RESP": "ReadIndexResp",
    "SNAP": "Snap",
    "TIMEOUT_NOW": "TimeoutNow",
    "TRANSFER_LEADER": "TransferLeader",
    "VOTE": "Vote",
    "VOTE_RESP": "VoteResp",
}


def message_type_name(message: Message) -> str:
    return f"Msg{_WORDS[message.type.name]}"


def describe_data(data: bytes | None) -> str:
    return '"' + (data or b"").decode("ascii", "backslashreplace") + '"'


def describe_entry(entry: Entry) -> str:
    """Scripts keep a configuration change as the text ``version:tokens``."""
    place = f"{entry.term}/{entry.index}"
    if entry.type == EntryType.NORMAL:
        return f"{place} EntryNormal {describe_data(entry.data)}"
    version, _, tokens = (entry.data or b"").decode().partition(":")
    return f"{place} EntryConfChange{'V2' if version == 'v2' else ''} {tokens}".rstrip()


def describe_conf_state(state: ConfState) -> str:
    def listed(members: Sequence[int]) -> str:
        return f"[{' '.join(map(str, members))}]"

    return (
        f"Voters:{listed(state.voters)} VotersOutgoing:{listed(state.voters_outgoing)} "
        f"Learners:{listed(state.learners)} LearnersNext:{listed(state.learners_next)} "
        f"AutoLeave:{str(state.auto_leave).lower()}"
    )


def describe_snapshot(snapshot: Snapshot) -> str:
    return (
        f"Index:{snapshot.index} Term:{snapshot.term} "
        f"ConfState:{describe_conf_state(snapshot.conf_state)}"
    )


def describe_hard_state(state: HardState) -> str:
    vote = f" Vote:{state.vote}" if state.vote else ""
    return f"HardState Term:{state.term}{vote} Commit:{state.commit}"


def describe_message(message: Message) -> list[str]:
    text = (
        f"{message.from_:x}->{message.to:x} {message_type_name(message)} "
        f"Term:{message.term} Log:{message.log_term}/{message.index}"
    )
    if message.reject:
        text += f" Rejected (Hint: {message.reject_hint})"
    if message.commit:
        text += f" Commit:{message.commit}"
    if message.context:
        text += f" Context:{describe_data(message.context)}"
    lines = [text]
    if len(message.entries) == 1:
        lines[0] += f" Entries:[{describe_entry(message.entries[0])}]"
    elif message.entries:
        lines[0] += " Entries:["
        lines += [f"  {describe_entry(each)}" for each in message.entries]
        lines.append("]")
    if message.snapshot is not None:
        lines.append(f"  Snapshot: {describe_snapshot(message.snapshot)}")
    return lines


def describe_ready(
    ready: Ready, state: HardState | None, committed: Sequence[Entry], must_sync: bool
) -> list[str]:
    """``state`` and ``committed`` stand for the Ready's own: scripts show each move of the commit
    index, and apply after saving."""
    lines = [f"Ready MustSync={str(must_sync).lower()}:"]
    if ready.soft_state is not None:
        lines.append(f"Lead:{ready.soft_state.lead} State:{ready.soft_state.state.value}")
    if state is not None:
        lines.append(describe_hard_state(state))
    if ready.read_states:
        reads = [f"{each.index}:{describe_data(each.context)}" for each in ready.read_states]
        lines.append(f"ReadStates {' '.join(reads)}")
    if ready.entries:
        lines += ["Entries:", *map(describe_entry, ready.entries)]
    if ready.snapshot is not None:
        lines.append(f"Snapshot {describe_snapshot(ready.snapshot)}")
    if committed:
        lines += ["CommittedEntries:", *map(describe_entry, committed)]
    messages = [*ready.messages, *ready.after_persist]
    if messages:
        lines.append("Messages:")
        for each in messages:
            lines += describe_message(each)
    return lines
