"""What every member does with a leader's messages (Raft 5.3, 7)."""

from __future__ import annotations

from etcdtw.raft.config import StateType
from etcdtw.raft.messages import NO_NODE, Message, MessageType, Snapshot
from etcdtw.raft.state import RaftState


def on_append(raft: RaftState, message: Message) -> None:
    """Take over entries that follow on what is here, or tell where the logs may agree."""
    log = raft.log
    if message.index < log.committed:
        # Late: all of it up to there is settled.
        raft.send(Message(type=MessageType.APP_RESP, to=message.from_, index=log.committed))
        return
    last_new = log.follow(message.index, message.log_term, message.commit, message.entries)
    if last_new is not None:
        raft.send(Message(MessageType.APP_RESP, message.from_, raft.id, raft.term, index=last_new))
        return
    hint = min(message.index, log.last_index)
    hint, hint_term = log.conflict_by_term(hint, message.log_term)
    raft.send(
        Message(
            type=MessageType.APP_RESP,
            to=message.from_,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def on_heartbeat(raft: RaftState, message: Message) -> None:
    """Commit what the leader says, and show that it was heard."""
    raft.log.commit_to(message.commit)
    raft.send(Message(type=MessageType.HEARTBEAT_RESP, to=message.from_, context=message.context))


def on_snapshot(raft: RaftState, message: Message) -> None:
    """Install the snapshot unless the log is already as far, and tell how far that is."""
    snapshot = message.snapshot
    if snapshot is not None and _restore(raft, snapshot):
        index = raft.log.last_index
    else:
        index = raft.log.committed
    raft.send(Message(type=MessageType.APP_RESP, to=message.from_, index=index))


def _restore(raft: RaftState, snapshot: Snapshot) -> bool:
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    assert raft.state is StateType.FOLLOWER, f"a snapshot reached a {raft.state.value}"
    members = snapshot.conf_state
    if raft.id not in (*members.voters, *members.learners):
        return False
    if log.matches(snapshot.index, snapshot.term):
        # The entries are here; the snapshot shows that they are committed.
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.tracker.restore(members, log.last_index)
    return True


def forward(raft: RaftState, message: Message) -> bool:
    """Pass a request on to the leader; False when none is known."""
    if raft.lead in (NO_NODE, raft.id):
        return False
    raft.send(message._replace(to=raft.lead))
    return True
