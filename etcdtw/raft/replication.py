"""The leader's side of log replication (Raft 5.3) and of catching up by snapshot (7)."""

from __future__ import annotations

from collections.abc import Container, Iterator

from etcdtw.raft.config import StateType
from etcdtw.raft.errors import LogCompacted, SnapshotTemporarilyUnavailable
from etcdtw.raft.messages import Entry, Message, MessageType
from etcdtw.raft.progress import Progress, ProgressState
from etcdtw.raft.quorum import committed_index
from etcdtw.raft.state import RaftState


def broadcast_append(raft: RaftState) -> None:
    """Send everybody what is new, or at least the commit index."""
    own = raft.id
    for member, progress in raft.tracker.progress.items():
        if member != own:
            send_append(raft, member, progress)


def send_append(raft: RaftState, to: int, progress: Progress, *, even_empty: bool = True) -> bool:
    """Send one append, or a snapshot where the log is gone; False when nothing was sent."""
    if progress.is_paused:
        return False
    log = raft.log
    prev_index = progress.next_index - 1
    try:
        prev_term = log.term(prev_index)
        # A full window lets an empty append through: its answer tells what got lost.
        if progress.state is ProgressState.REPLICATE and progress.inflights.full:
            entries: list[Entry] = []
        else:
            entries = log.entries_from(progress.next_index, raft.config.max_message_bytes)
    except LogCompacted:
        return _send_snapshot(raft, to, progress)
    if not entries and not even_empty:
        return False
    raft.messages.append(
        Message(
            type=MessageType.APP,
            to=to,
            from_=raft.id,
            term=raft.term,
            log_term=prev_term,
            index=prev_index,
            entries=entries,
            commit=log.committed,
        )
    )
    progress.sent_entries(len(entries))
    progress.sent_commit = log.committed
    return True


def _send_snapshot(raft: RaftState, to: int, progress: Progress) -> bool:
    """Snapshots are dear: only to members that were heard from lately."""
    if not progress.recent_active:
        return False
    try:
        snapshot = raft.log.load_snapshot()
    except SnapshotTemporarilyUnavailable:
        return False
    assert snapshot.index > 0, "an empty snapshot cannot help anybody"
    progress.become_snapshot(snapshot.index)
    raft.send(Message(type=MessageType.SNAP, to=to, snapshot=snapshot))
    return True


def broadcast_heartbeat(raft: RaftState, context: bytes) -> None:
    """Tell everybody who leads; ``context`` comes back with the answers."""
    for member, progress in raft.tracker.progress.items():
        if member != raft.id:
            # Beyond match the member may hold something else, which it must not commit.
            commit = min(progress.match, raft.log.committed)
            raft.send(
                Message(
                    type=MessageType.HEARTBEAT, to=member, commit=commit, context=context or None
                )
            )
            progress.sent_commit = commit


def advance_commit(raft: RaftState) -> bool:
    """Commit what a majority holds if it is of this term (Raft 5.4.2); True when it moved."""
    progress = raft.tracker.progress
    index = committed_index([progress[each].match for each in raft.tracker.voters])
    log = raft.log
    if index <= log.committed or not log.matches(index, raft.term):
        return False
    log.commit_to(index)
    return True


def commit_moved(raft: RaftState) -> None:
    """Tell everybody, or those who must not wait for what is sent next."""
    told = raft.told_at_once
    if told is None:
        broadcast_append(raft)
        return
    for member in told:
        progress = raft.tracker.progress.get(member)
        if progress is not None and member != raft.id:
            send_append(raft, member, progress)


def lack_commit(raft: RaftState) -> Iterator[tuple[int, Progress]]:
    """Members that could commit more if they were told now."""
    committed = raft.log.committed
    for member, progress in raft.tracker.progress.items():
        if member != raft.id and progress.needs_commit(committed) and not progress.is_paused:
            yield member, progress


def tell_commit(raft: RaftState, members: Container[int] | None) -> None:
    """Tell those of the members (None: of all) who lack it what is committed."""
    for member, progress in lack_commit(raft):
        if members is None or member in members:
            send_append(raft, member, progress)


def on_append_response(raft: RaftState, message: Message, progress: Progress) -> bool:
    """A member answered an append or a snapshot; True when the commit index moved."""
    progress.recent_active = True
    if message.reject:
        _on_reject(raft, message, progress)
        return False
    if message.index > raft.log.last_index:
        # Nobody holds what was never sent, or else this leader's disk has lost it; counted, it
        # would be looked for in the log with every append from now on.
        return False
    # An old answer still ends a probe: it shows that the logs agree.
    ends_probe = progress.state is ProgressState.PROBE and message.index == progress.match
    if not progress.accepted(message.index) and not ends_probe:
        return False
    if progress.state is ProgressState.REPLICATE:
        progress.inflights.free_through(message.index)
    elif progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.match + 1 >= raft.log.first_index:
        # The rest is in the log, whether or not the snapshot itself was reported.
        progress.become_replicate()
    moved = advance_commit(raft)
    if moved:
        commit_moved(raft)
    elif _is_told(raft, message.from_) and progress.needs_commit(raft.log.committed):
        send_append(raft, message.from_, progress)
    # Most answers are to the last entries that there are.
    while progress.next_index <= raft.log.last_index:
        if not send_append(raft, message.from_, progress, even_empty=False):
            break
    return moved


def _is_told(raft: RaftState, member: int) -> bool:
    return raft.told_at_once is None or member in raft.told_at_once


def _on_reject(raft: RaftState, message: Message, progress: Progress) -> None:
    """Probe at the last place where the logs can agree, given the term that the member has there
    (the paper's 5.3, skipping whole terms)."""
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = raft.log.conflict_by_term(hint, message.log_term)
    if progress.rejected(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(raft, message.from_, progress)


def on_heartbeat_response(raft: RaftState, message: Message, progress: Progress) -> None:
    """A member lives: let it have what it lacks, or prove again where it stands."""
    progress.recent_active = True
    progress.flow_paused = False
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        send_append(raft, message.from_, progress)


def on_snapshot_status(progress: Progress, ok: bool) -> None:
    """A snapshot arrived or failed. Either way the next append waits: for the member's own
    answer, or for the next heartbeat."""
    if progress.state is ProgressState.SNAPSHOT:
        if not ok:
            progress.pending_snapshot = 0
        progress.become_probe()
        progress.flow_paused = True


def on_unreachable(progress: Progress) -> None:
    """Appends sent ahead are probably lost."""
    if progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def on_own_log_durable(raft: RaftState) -> bool:
    """The leader's own entries count now; True when the commit index moved."""
    progress = raft.tracker.progress.get(raft.id)
    if progress is None or not progress.accepted(raft.log.durable):
        return False
    assert raft.state is StateType.LEADER, "only a leader counts its own log"
    if advance_commit(raft):
        commit_moved(raft)
        return True
    return False
