"""Members compare what they hold, before they serve or at any time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.v3.submit import entry_data
from etcdtw.app.assemble import Core
from etcdtw.errors import EtcdError
from etcdtw.ids import format_id
from etcdtw.membership import Member
from etcdtw.mvcc.hash import HashKV
from etcdtw.pb.rpc_pb2 import CORRUPT, AlarmRequest
from etcdtw.peer.calling import HttpCaller
from etcdtw.replica.proposal import Proposal

HASH_PATH = "/members/hashkv"
ASK_SECONDS = 7.0

log = Logger(namespace="etcdtw.member")


class Inconsistent(Exception):
    """Peers hold something else at the same revision; the text is etcd's."""


class Hash(NamedTuple):
    """Of a member's keyspace at some revision; ``revision`` is the newest that it has."""

    member_id: int
    revision: int
    hash: int
    compact_revision: int


async def check_before_serving(core: Core, caller: HttpCaller) -> None:
    """Inconsistent, if a peer that has compacted as far as this member has another hash at its
    revision. Peers that cannot be asked, or are behind, prove nothing."""
    own = await own_hash(core)
    log.info("starting initial corruption check", local_member_id=format_id(own.member_id))
    mismatch = False
    for peer in await peer_hashes(core, core.members.all_stored(), caller, own.revision):
        if peer.hash == own.hash:
            continue
        if peer.compact_revision == own.compact_revision:
            mismatch = True
            what = "found different hash values from remote peer"
        else:
            what = "found different compact revision values from remote peer"
        log.warn("{what}", what=what, **told(own, peer))
    if mismatch:
        raise Inconsistent(f"{format_id(own.member_id)} found data inconsistency with peers")
    log.info("initial corruption checking passed; no corruption")


def suspects(before: Hash, after: Hash, peers: Sequence[Hash]) -> Iterator[tuple[Hash, str]]:
    """Which members must be wrong, and why. ``before`` and ``after`` are the leader's own hashes,
    around its question to the peers and a linearizable read (etcd's rules)."""
    same_place = (before.revision, before.compact_revision)
    if same_place == (after.revision, after.compact_revision) and before.hash != after.hash:
        yield after, "found hash mismatch"
    for peer in peers:
        if peer.revision > after.revision:
            yield peer, "revision from follower must be less than or equal to leader's"
        if peer.compact_revision > after.compact_revision:
            yield peer, "compact revision from follower must be less than or equal to leader's"
        if peer.compact_revision == before.compact_revision and peer.hash != before.hash:
            yield peer, "same compact revision then hashes must match"


async def check_peers(core: Core, caller: HttpCaller) -> None:
    """Compare with the others at the newest revision, and raise CORRUPT for who differs."""
    before = await own_hash(core)
    peers = await peer_hashes(core, core.members.all(), caller, before.revision)
    await _linearizable(core)
    after = await own_hash(core)
    found = list(suspects(before, after, peers))
    for suspect, why in found:
        log.warn("{why}", why=why, **told(after, suspect))
    if found:
        raise_alarm(core, found[0][0].member_id)
    log.info("finished peer corruption check", number_of_peers_checked=len(peers))


def raise_alarm(core: Core, member_id: int) -> None:
    """CORRUPT for a member, 0 where nobody knows which one is wrong."""
    replica = core.replica
    request = AlarmRequest(action=AlarmRequest.ACTIVATE, memberID=member_id, alarm=CORRUPT)
    data = entry_data("alarm", request.SerializeToString(), replica.ids.next())
    replica.propose(Proposal(data, "alarm", request, lambda result: None))


async def own_hash(core: Core) -> Hash:
    """This member's, at its newest revision."""
    job: HashKV = core.store.hash_kv(0)
    done: Deferred[None] = Deferred()
    core.slices.run(job.step, lambda: done.callback(None))
    await done
    return Hash(core.member_id, job.revision, job.hash, job.compact_revision)


async def peer_hashes(
    core: Core, members: Sequence[Member], caller: HttpCaller, revision: int
) -> list[Hash]:
    """Those of all other members that answer."""
    others = [each for each in members if each.id != core.member_id]
    asking = [Deferred.fromCoroutine(_ask(each, caller, revision)) for each in others]
    answers = [await each for each in asking]
    return [each for each in answers if each is not None]


async def _ask(member: Member, caller: HttpCaller, revision: int) -> Hash | None:
    headers = {b"Content-Type": b"application/json"}
    body = json.dumps({"revision": revision}).encode()
    for url in member.peer_urls:
        try:
            answer = await caller.call(b"GET", url + HASH_PATH, headers, body, ASK_SECONDS)
            if answer.status != 200:
                raise ValueError(answer.body.decode("utf-8", "replace").strip())
            found = json.loads(answer.body)
            return Hash(
                member.id,
                int(found["header"]["revision"]),
                int(found.get("hash", 0)),
                int(found.get("compact_revision", 0)),
            )
        except Exception as error:  # whatever is wrong with one URL, the next may do
            log.warn(
                "cannot fetch hash from remote peer: {error}",
                error=str(error),
                remote_peer_id=format_id(member.id),
                requested_revision=revision,
            )
    return None


def _linearizable(core: Core) -> Deferred[None]:
    done: Deferred[None] = Deferred()

    def answered(error: EtcdError | None) -> None:
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    core.replica.read(answered)
    return done


def told(own: Hash, peer: Hash) -> dict[str, object]:
    """Both sides, for a line of the log."""
    return {
        "local_member_id": format_id(own.member_id),
        "local_member_revision": own.revision,
        "local_member_compact_revision": own.compact_revision,
        "local_member_hash": own.hash,
        "remote_peer_id": format_id(peer.member_id),
        "remote_peer_revision": peer.revision,
        "remote_peer_compact_revision": peer.compact_revision,
        "remote_peer_hash": peer.hash,
    }
