"""The voters and learners of a cluster, and how one change at a time alters them (thesis 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from etcdtw.raft.errors import ConfChangeRefused
from etcdtw.raft.messages import NO_NODE, ConfChange, ConfChangeType, ConfState
from etcdtw.raft.progress import Progress


class Configuration(NamedTuple):
    """Who takes part. Both are ascending and share no member."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"voters=({' '.join(map(str, self.voters))})"
        if self.learners:
            text += f" learners=({' '.join(map(str, self.learners))})"
        return text

    def to_conf_state(self) -> ConfState:
        return ConfState(voters=self.voters, learners=self.learners)


class Tracker:
    """The configuration and, for each of its members, the progress that a leader keeps.

    ``progress`` is in ascending order of ids, so that messages go out in that order.
    """

    __slots__ = ("configuration", "inflight_limit", "progress", "voters")

    def __init__(self, inflight_limit: int) -> None:
        self.inflight_limit = inflight_limit
        self.configuration = Configuration()
        self.voters: tuple[int, ...] = ()
        self.progress: dict[int, Progress] = {}

    def restore(self, conf_state: ConfState, last_index: int) -> None:
        """Start over from a saved configuration."""
        assert not conf_state.voters_outgoing, "joint configurations are not supported"
        self.progress = {}
        self._install(
            Configuration(tuple(sorted(conf_state.voters)), tuple(sorted(conf_state.learners))),
            last_index,
        )

    def change(self, changes: Iterable[ConfChange], last_index: int) -> None:
        """Apply changes that together add or remove at most one voter.

        Raises ConfChangeRefused, with nothing changed, when they do more or leave no voter.
        """
        changed = changed_configuration(self.configuration, changes)
        if len(set(changed.voters) ^ set(self.voters)) > 1:
            raise ConfChangeRefused("more than one voter changed without entering joint config")
        self._install(changed, last_index)

    def _install(self, configuration: Configuration, last_index: int) -> None:
        """Keep the progress of those who stay; a new one is probed at the last entry and counts
        as active, or the leader might resign before the newcomer had a chance to speak."""
        progress = {}
        for each in sorted((*configuration.voters, *configuration.learners)):
            known = self.progress.get(each)
            if known is None:
                known = Progress(max(last_index, 1), self.inflight_limit)
                known.recent_active = True
            known.is_learner = each in configuration.learners
            progress[each] = known
        self.progress = progress
        self.configuration = configuration
        self.voters = configuration.voters


def changed_configuration(
    configuration: Configuration, changes: Iterable[ConfChange]
) -> Configuration:
    """The configuration after ``changes``; node id 0 and updates have no effect."""
    voters = set(configuration.voters)
    learners = set(configuration.learners)
    for change in changes:
        node = change.node_id
        if node == NO_NODE or change.type == ConfChangeType.UPDATE_NODE:
            continue
        voters.discard(node)
        learners.discard(node)
        if change.type == ConfChangeType.ADD_NODE:
            voters.add(node)
        elif change.type == ConfChangeType.ADD_LEARNER_NODE:
            learners.add(node)
    if not voters:
        raise ConfChangeRefused("removed all voters")
    return Configuration(tuple(sorted(voters)), tuple(sorted(learners)))
