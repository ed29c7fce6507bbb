"""The leader decides the cluster's version: the least of all members' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from etcdtw.apply.requests import V2
from etcdtw.ids import format_id
from etcdtw.membership import Members, version_request
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica
from etcdtw.version import ETCD_VERSION, parsed_version

CHECK_SECONDS = 4.0
UNDECIDED = "3.0.0"
"""Proposed while a member does not say what it is, if nothing was decided before."""

log = Logger(namespace="etcdtw.member")


def tell_versions(members: Members, cluster_id: int, member_id: int) -> None:
    """Log the cluster's version, now and whenever it changes. Scripts wait for these lines."""
    ids = {"cluster_id": format_id(cluster_id), "local_member_id": format_id(member_id)}

    def changed(before: str | None, version: str) -> None:
        short = _short(version)
        if before is None:
            log.info("set initial cluster version", **ids, cluster_version=short)
        else:
            log.info("updated cluster version", **ids, **{"from": _short(before), "to": short})
        log.info("enabled capabilities for version", cluster_version=short)

    if members.version is not None:
        log.info("enabled capabilities for version", cluster_version=_short(members.version))
    members.on_version.append(changed)


def _short(version: str) -> str:
    """``3.5`` of ``3.5.0``."""
    return version.rpartition(".")[0]


def propose_version(replica: Replica, version: str) -> None:
    """Once: whoever leads looks again soon, while a request that is repeated might come after
    another leader has set a later version, and undo it."""
    log.info("setting the cluster version", cluster_version=version)
    request = version_request(replica.ids.next(), version)
    replica.propose(Proposal(request.SerializeToString(), V2, request, lambda result: None))


class VersionMonitor:
    """Runs while this member leads; ``propose`` sets a version. It rises with the members', and
    falls by one minor step when one of them is that much older (etcd 3.5)."""

    def __init__(
        self,
        own_id: int,
        members: Members,
        caller: HttpCaller,
        propose: Callable[[str], None],
        most: str,
    ) -> None:
        """``most`` is the highest version to set, like ``3.4``; empty: no limit."""
        self._own_id = own_id
        self._members = members
        self._caller = caller
        self._propose = propose
        self._most = most
        self._call: IDelayedCall | None = None
        self._leads = False

    def lead(self) -> None:
        if not self._leads:
            self._leads = True
            self._check()

    def follow(self) -> None:
        self._leads = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None

    def _check(self) -> None:
        self._call = self._caller.reactor.callLater(CHECK_SECONDS, self._check)
        others = [each for each in self._members.all() if each.id != self._own_id]
        asked = [self._version_of(each.peer_urls) for each in others]
        DeferredList(asked).addCallback(self._decide)

    def _version_of(self, urls: tuple[str, ...]) -> Deferred[str | None]:
        """What a member says it is; None if none of its URLs answers."""
        return Deferred.fromCoroutine(self._ask(urls))

    async def _ask(self, urls: tuple[str, ...]) -> str | None:
        for url in urls:
            try:
                found: Answered = await self._caller.call(b"GET", url + "/version", {}, b"", 2.0)
                version = json.loads(found.body)["etcdserver"]
                parsed_version(version)
            except Exception as error:  # whatever is wrong with one URL, the next may do
                log.debug("no version from {url}: {error}", url=url, error=str(error))
                continue
            return str(version)
        return None

    def _decide(self, found: list[tuple[bool, Any]]) -> None:
        if not self._leads:
            return
        versions = [version for _, version in found]
        known = self._members.version
        if None in versions:
            if known is None:
                self._propose(UNDECIDED)
            return
        least = min(parsed_version(each)[:2] for each in (*versions, ETCD_VERSION))
        most = min(least, parsed_version(self._most)) if self._most else least
        major, minor = (0, 0) if known is None else parsed_version(known)[:2]
        if least == (major, minor - 1):
            self._propose(f"{least[0]}.{least[1]}.0")
        elif most > (major, minor):
            self._propose(f"{most[0]}.{most[1]}.0")
