"""Members compare what they held right before each compaction.

Hashes of the present tell little while members are not at the same revision. What a member held
before a compaction is the same for ever, so it can be compared later, with everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted.logger import Logger

from etcdtw.app.assemble import Core
from etcdtw.app.corruption import Hash, peer_hashes, raise_alarm, told
from etcdtw.ids import format_id
from etcdtw.peer.calling import HttpCaller

log = Logger(namespace="etcdtw.member")


class Verdict(NamedTuple):
    """Who is wrong (0: nobody knows who), and whether nothing is left to find out."""

    wrong: list[int]
    final: bool


def judge(own: Hash, peers: Sequence[Hash], others: int) -> Verdict:
    """Compare one compaction's hashes of this member and of those of the ``others`` that know it:
    right is what a majority of all members has (etcd's rules)."""
    members_of = {own.hash: [own.member_id]}
    compared = 0
    for peer in peers:
        if peer.compact_revision == own.compact_revision:
            compared += 1
            members_of.setdefault(peer.hash, []).append(peer.member_id)
    if len(members_of) == 1:
        return Verdict([], compared == others)
    quorum = (others + 1) // 2 + 1
    minorities = [each for each in members_of.values() if len(each) < quorum]
    if len(minorities) == len(members_of):
        return Verdict([0], True)
    return Verdict([each for minority in minorities for each in minority], True)


class CompactHashCheck:
    """Looks at compactions that were not compared with everybody yet, the newest first."""

    def __init__(self, core: Core, caller: HttpCaller) -> None:
        self._core = core
        self._caller = caller
        self._checked_revision = 0
        self._unclear_revision = 0

    async def check(self) -> None:
        """Raise CORRUPT for whoever had something else."""
        core = self._core
        log.info("starting compact hash check", local_member_id=format_id(core.member_id))
        others = len(core.members.all()) - 1
        for job in reversed([each for each in core.store.compaction_hashes if each.done]):
            if job.revision <= self._checked_revision:
                break
            own = Hash(core.member_id, job.revision, job.hash, job.compact_revision)
            peers = await peer_hashes(core, core.members.all(), self._caller, own.revision)
            verdict = judge(own, peers, others)
            if verdict.wrong == [0] and own.revision != self._unclear_revision:
                # Whoever did not answer may have been about to compact, and would decide it.
                self._unclear_revision = own.revision
                break
            for peer in peers:
                if verdict.wrong and peer.hash != own.hash:
                    log.error("detected compaction hash mismatch", **told(own, peer))
            for member_id in verdict.wrong:
                raise_alarm(core, member_id)
            if verdict.final:
                if not verdict.wrong:
                    self._checked_revision = own.revision
                break
        log.info("finished compaction hash check", last_checked_revision=self._checked_revision)
