"""The settings of one member's core."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from etcdtw.raft.messages import NO_NODE

MIB = 1 << 20


class StateType(Enum):
    """What a member is at the moment; the values are the names that etcd prints."""

    FOLLOWER = "StateFollower"
    CANDIDATE = "StateCandidate"
    LEADER = "StateLeader"
    PRE_CANDIDATE = "StatePreCandidate"


@dataclass(frozen=True)
class RaftConfig:
    """Settings of a RaftNode; the defaults are etcd's.

    ``id`` is not 0. A follower campaigns after ``election_ticks`` to ``2 * election_ticks - 1``
    quiet ticks; a leader sends heartbeats every ``heartbeat_ticks``. ``max_message_bytes`` bounds
    an append, ``max_committed_bytes`` what one Ready gives to apply; a larger entry goes alone.
    ``read_only``: ``safe`` proves leadership by a round of heartbeats, ``lease`` trusts the clocks.
    ``applied`` is the index up to which the state machine has applied already.
    """

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_message_bytes: int = MIB
    max_inflight_messages: int = 512
    max_committed_bytes: int = MIB
    check_quorum: bool = True
    pre_vote: bool = True
    read_only: str = "safe"
    applied: int = 0
    step_down_on_removal: bool = False
    disable_conf_change_validation: bool = False
    disable_proposal_forwarding: bool = False

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"raft configuration: {problem}")

    def _problem(self) -> str:
        if self.id == NO_NODE:
            return "id must not be 0"
        if self.heartbeat_ticks < 1:
            return f"heartbeat_ticks must be positive, not {self.heartbeat_ticks}"
        if self.election_ticks <= self.heartbeat_ticks:
            return (
                f"election_ticks ({self.election_ticks}) must be more than "
                f"heartbeat_ticks ({self.heartbeat_ticks})"
            )
        if self.max_inflight_messages < 1:
            return f"max_inflight_messages must be positive, not {self.max_inflight_messages}"
        if self.read_only not in ("safe", "lease"):
            return f"read_only must be 'safe' or 'lease', not {self.read_only!r}"
        if self.read_only == "lease" and not self.check_quorum:
            return "read_only 'lease' needs check_quorum"
        return ""
