"""Another member in the place of one: the steps, and what forbids them.

Where the old one still answers, it goes last: the new one is added as a learner, which costs no
majority, catches up, gets its vote, and only then the old one loses its own. While a voter is
away nobody is let in (``--strict-reconfig-check``), so one that is gone is removed first.

Every step is found in the members' list, so whoever was interrupted begins again and goes on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from etcdtw.errors import (
    Code,
    EtcdError,
    LearnerNotReady,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    PeerURLExists,
)
from etcdtw.ids import format_id
from etcdtw.pb.rpc_pb2 import Member

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 30.0
"""How long to ask again for what a cluster refuses that has just changed."""

_PASSING_CODES = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
_PASSING = (LearnerNotReady, MemberNotEnoughStarted)


class Cluster(Protocol):
    """The cluster as its clients see it. EtcdError where it refuses."""

    async def members(self) -> list[Member]: ...

    async def answering(self, members: Sequence[Member]) -> set[int]:
        """The ids of those that answer by themselves."""

    async def add_learner(self, peer_urls: list[str]) -> None: ...

    async def promote(self, member_id: int) -> None: ...

    async def remove(self, member_id: int) -> None: ...


class Refused(Exception):
    """It must not be done, or not now; the text says why."""


@dataclass(frozen=True)
class Wanted:
    """``old`` is an id in hex or a name. ``catch_up_seconds``: how long the new one may take to
    start and to catch up. ``is_removed``: the old one is not a member any more."""

    old: str
    name: str
    peer_urls: tuple[str, ...]
    catch_up_seconds: float
    is_removed: bool = False


async def replace_member(
    cluster: Cluster, wanted: Wanted, say: Callable[[str], None], clock: IReactorTime
) -> None:
    """Do what is left to do. Refused, EtcdError; begun again it goes on."""
    await _Replacement(cluster, wanted, say, clock).run()


class _Replacement:
    def __init__(
        self, cluster: Cluster, wanted: Wanted, say: Callable[[str], None], clock: IReactorTime
    ) -> None:
        self._cluster = cluster
        self._wanted = wanted
        self._say = say
        self._clock = clock

    async def run(self) -> None:
        try:
            members = await self._cluster.members()
        except EtcdError as error:
            raise Refused(
                f"the members cannot be read ({error}): a cluster without a majority cannot be "
                "changed; what is left of it goes on alone by --force-new-cluster"
            ) from None
        old, new = self._find(members)
        if old is None and new is not None and not new.isLearner:
            self._say(f"{_shown(new)} has its vote, and {self._wanted.old} is gone: nothing to do")
            return
        answering = await self._cluster.answering(members)
        self._check_others(members, old, new, answering)
        if old is not None and old.ID not in answering:
            await self._remove_lost(members, old)
            old = None
        if old is not None and set(old.peerURLs) & set(self._wanted.peer_urls):
            raise Refused(f"{_shown(old)} answers, and has this peer URL itself")
        if new is None:
            new = await self._add()
        if new.isLearner:
            self._tell_flags(await self._cluster.members(), new)
            await self._promote(new)
        if old is not None:
            self._say(f"removing {_shown(old)}")
            await self._remove(old)
        self._say(f"{self._wanted.name} is a voting member in the place of {self._wanted.old}")

    # --- what is there, and what forbids to go on ------------------------------------------------

    def _find(self, members: Sequence[Member]) -> tuple[Member | None, Member | None]:
        """The old member and the new one, as far as they are there."""
        wanted = self._wanted
        named = [each for each in members if wanted.old in (each.name, format_id(each.ID))]
        if len(named) > 1:
            raise Refused(f"several members are called {wanted.old}: say which by its id")
        old = named[0] if named else None
        urls = set(wanted.peer_urls)
        met = [each for each in members if each is not old and urls & set(each.peerURLs)]
        if met and (len(met) > 1 or set(met[0].peerURLs) != urls):
            taken = ", ".join(map(_shown, met))
            raise Refused(f"some of {','.join(wanted.peer_urls)} are those of {taken}")
        if old is None and not met and not wanted.is_removed:
            raise Refused(
                f"there is no member {wanted.old}; if it has been removed already, say --removed"
            )
        return old, met[0] if met else None

    def _check_others(
        self,
        members: Sequence[Member],
        old: Member | None,
        new: Member | None,
        answering: set[int],
    ) -> None:
        """All voters but the old one must be there."""
        spared = {each.ID for each in (old, new) if each is not None}
        away = [
            each for each in members if each.ID not in answering | spared and not each.isLearner
        ]
        if away:
            raise Refused(
                f"{', '.join(map(_shown, away))} must answer as well: with two members away at a "
                "time the cluster could be left without a majority"
            )

    # --- the steps -------------------------------------------------------------------------------

    async def _remove_lost(self, members: Sequence[Member], old: Member) -> None:
        voters = sum(not each.isLearner for each in members) - (not old.isLearner)
        if not voters:
            raise Refused(f"{_shown(old)} is the only voter, and does not answer")
        spare = voters - (voters // 2 + 1)
        self._say(
            f"{_shown(old)} does not answer and is removed first: nobody is let in while a voter "
            f"is away. {voters} voters stay, of which {spare or 'none'} may fail until the new "
            "member has its vote"
        )
        await self._remove(old)

    async def _remove(self, old: Member) -> None:
        await self._patiently(lambda: self._cluster.remove(old.ID), MemberNotFound, SETTLE_SECONDS)

    async def _add(self) -> Member:
        self._say(f"adding {self._wanted.name} as a learner")
        urls = list(self._wanted.peer_urls)
        await self._patiently(
            lambda: self._cluster.add_learner(urls), PeerURLExists, SETTLE_SECONDS
        )
        for each in await self._cluster.members():
            if set(each.peerURLs) == set(urls):
                return each
        raise Refused("the learner was removed by somebody else")

    async def _promote(self, new: Member) -> None:
        self._say(f"waiting until {self._wanted.name} has started and caught up")
        await self._patiently(
            lambda: self._cluster.promote(new.ID), MemberNotLearner, self._wanted.catch_up_seconds
        )
        self._say(f"{self._wanted.name} has its vote")

    async def _patiently(
        self, step: Callable[[], Awaitable[None]], happened: type[EtcdError], seconds: float
    ) -> None:
        """Try until it is done, for so long, as long as what forbids it may pass. ``happened`` is
        what the cluster says of a step that an earlier try, unanswered, has done."""
        end = self._clock.seconds() + seconds
        while True:
            try:
                await step()
                return
            except happened:
                return
            except EtcdError as error:
                passing = error.code in _PASSING_CODES or isinstance(error, _PASSING)
                if not passing or self._clock.seconds() >= end:
                    raise
            await deferLater(self._clock, LOOK_SECONDS)

    def _tell_flags(self, members: Sequence[Member], new: Member) -> None:
        """What the new member is to be started with."""
        wanted = self._wanted
        listed = [
            f"{wanted.name if each.ID == new.ID else each.name or format_id(each.ID)}={url}"
            for each in members
            for url in each.peerURLs
        ]
        self._say(
            f"start it, with an empty data directory and\n"
            f"  --name {wanted.name} --initial-cluster-state existing \\\n"
            f"  --initial-advertise-peer-urls {','.join(wanted.peer_urls)} \\\n"
            f"  --initial-cluster {','.join(listed)}"
        )


def _shown(member: Member) -> str:
    identity = format_id(member.ID)
    return f"{member.name} ({identity})" if member.name else identity
