"""Meeting at a service: members register below a token, and the first so many are the cluster.

The rules of both of etcd's discovery protocols, and their order; how to ask is a registry's. Who
finds the cluster full writes nothing, who registers does it once, nobody goes on before all are
there, and a service that does not answer is asked again and again, more and more seldom. Whose
registration is taken away is refused: the others do not count on him any more, nor he on them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from twisted.logger import Logger

from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, Note, TimeView
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.registry import Registered, Registry, Status, Unreachable, status_of
from etcdtw.bootstrap.static import check_listed, check_unique, members_text, static_plan
from etcdtw.bootstrap.waiting import after

BACKOFF_DOUBLINGS_MAX = 8
"""Pauses of 2, 4, … 256 s while the service does not answer."""

Members = tuple[tuple[str, tuple[str, ...]], ...]

log = Logger(namespace="etcdtw.discovery")


class Claim:
    """Knows whether a registration that is there already was made by this member: an earlier start
    left a note, which says where and as what it was about to register."""

    def __init__(self, note: Note | None, place: str, identity: str, value: str) -> None:
        self._note = note
        self._text = json.dumps({"discovery": place, "member": identity, "registered": value})
        self.is_ours = note is not None and note.read() == self._text

    def make(self) -> None:
        if self._note is not None and not self.is_ours:
            self._note.write(self._text)
        self.is_ours = True

    def drop(self) -> None:
        if self._note is not None:
            self._note.write("")


class Meeting:
    """One member, or one who wants to know the members, at a registry."""

    def __init__(
        self,
        registry: Registry,
        reactor: TimeView,
        identity: str = "",
        timeout_seconds: float = 0.0,
    ) -> None:
        """``identity`` is the own id in hex; empty for one who is no member. ``timeout_seconds`` is
        for all of it; 0: however long it takes."""
        self._registry = registry
        self._reactor = reactor
        self._identity = identity
        self._deadline = reactor.seconds() + (timeout_seconds or math.inf)
        self._may_be_registered = False
        self._retries = 0
        self._known: set[str] = set()

    async def join(self, settings: BootstrapSettings, place: str) -> Members:
        """Register, and wait until all are there. BootstrapError."""
        value, claim = self._own(settings, place)
        status = await self._status("cluster status check")
        if status.is_full_for(self._identity):  # it is not to be burdened
            raise self._registry.refusals.full()
        if not await self._register(status, value, claim):
            raise self._registry.refusals.registered_before(settings.name)
        return await self._gather(settings.name)

    async def state(self, settings: BootstrapSettings, place: str) -> str:
        """What one would find who registers now. BootstrapError if he could not."""
        value, claim = self._own(settings, place)
        refusals = self._registry.refusals
        try:
            status = await self._registry.status()
        except Unreachable as reason:
            raise refusals.unavailable(str(reason)) from None
        if status.is_full_for(self._identity):
            raise refusals.full()
        own = status.of(self._identity)
        if own is not None and not (claim.is_ours and own.value == value):
            raise refusals.registered_before(settings.name)
        there = [each.value for each in status.members]
        lines = [f"{len(there)} of {status.size} members have registered at {refusals.place}"]
        verb = "would register" if own is None else "has registered"
        return "\n".join([*lines, *there, f"this one {verb} as {self._identity}"])

    async def look(self) -> tuple[str, ...]:
        """All members' URLs, without being one."""
        members = await self._gather()
        return tuple(sorted(url for _, urls in members for url in urls))

    def _own(self, settings: BootstrapSettings, place: str) -> tuple[str, Claim]:
        value = members_text([(settings.name, settings.peer_urls)])
        return value, Claim(settings.note, place, self._identity, value)

    # --- steps -----------------------------------------------------------------------------------

    async def _register(self, status: Status, value: str, claim: Claim) -> bool:
        """False if the registration is somebody else's, who could be this member without its
        data."""
        found = status.of(self._identity)
        may_be_ours = claim.is_ours
        self._may_be_registered = True
        while found is None:
            claim.make()
            try:
                if await self._registry.register(self._identity, value):
                    self._retries = 0
                    return True
            except Unreachable as reason:
                may_be_ours = True  # it may have been heard
                await self._back_off("registration", reason)
                found = (await self._status("registration")).of(self._identity)
                continue
            found = (await self._status("registration")).of(self._identity)
            if found is None:
                raise self._registry.refusals.failed(
                    "discovery: bad discovery endpoint",
                    "it knows a registration of this member, and lists none",
                )
        if may_be_ours and found.value == value:
            log.info("found the registration of this member", member=self._identity)
            return True
        claim.drop()
        return False

    async def _gather(self, own_name: str | None = None) -> Members:
        """``own_name`` is that of one who has registered."""
        while True:
            status = await self._status("waiting for other nodes")
            if own_name is not None:
                if status.of(self._identity) is None:
                    raise self._registry.refusals.removed(own_name)
                if status.is_full_for(self._identity):
                    raise self._registry.refusals.full()
            found = await self._wait(status)
            if found is not None:
                return self._members(found, status.size)

    async def _status(self, step: str) -> Status:
        """However long it takes to be told."""
        while True:
            try:
                status = await self._registry.status()
            except Unreachable as reason:
                await self._back_off(step, reason)
            else:
                self._retries = 0
                return status

    async def _wait(self, status: Status) -> Sequence[Registered] | None:
        """All members; None if the service has to be asked from the beginning."""
        found = {each.identity: each for each in status.members}
        for each in found.values():
            self._tell(each)
        while len(found) < status.size:
            self._registry.tell_waiting(len(found), status.size)
            left = self._deadline - self._reactor.seconds()
            if left <= 0:
                raise self._late("waiting for other nodes", f"{len(found)} of {status.size} came")
            try:
                newcomers = await self._registry.newcomers(left)
            except Unreachable as reason:
                await self._back_off("waiting for other nodes", reason)
                return None
            if newcomers is None:
                return None
            for each in newcomers:
                if each.identity not in found:
                    self._tell(each)
                    found[each.identity] = each
        self._registry.tell_complete(len(found), status.size)
        return status_of(found.values(), status.size).members

    def _tell(self, found: Registered) -> None:
        if found.identity not in self._known:
            self._known.add(found.identity)
            self._registry.tell_found(found, found.identity == self._identity)

    async def _back_off(self, step: str, reason: Exception) -> None:
        self._retries += 1
        seconds = 2.0 ** min(self._retries, BACKOFF_DOUBLINGS_MAX)
        if self._reactor.seconds() + seconds > self._deadline:
            raise self._late(step, str(reason))
        self._registry.tell_retry(step, reason, seconds)
        await after(self._reactor, seconds)

    def _late(self, step: str, reason: str) -> BootstrapError:
        refusals = self._registry.refusals
        if self._may_be_registered:  # the others may count on this member now
            return refusals.failed(f"discovery: timed out {step}", f"{reason}, {refusals.place}")
        return refusals.unavailable(f"timed out with {step}: {reason}")

    def _members(self, found: Sequence[Registered], size: int) -> Members:
        members: dict[str, set[str]] = {}
        for each in found:
            for pair in each.value.split(","):
                name, mark, url = pair.partition("=")
                if not mark or not name or not _is_peer_url(url):
                    raise self._registry.refusals.invalid_url(each)
                members.setdefault(name, set()).add(url)
        if len(members) != size:
            raise self._registry.refusals.same_names(found)
        return tuple((name, tuple(sorted(urls))) for name, urls in sorted(members.items()))


def met_plan(settings: BootstrapSettings, members: Members, token: str) -> ClusterPlan:
    """The plan of the cluster that these members found. BootstrapError."""
    listed = replace(settings, initial_cluster=members, initial_cluster_token=token)
    check_listed(listed)
    check_unique(listed, "discovery cluster")
    return static_plan(listed)


def _is_peer_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme in ("unix", "unixs"):
        return bool(parts.netloc)
    has_end = bool(parts.hostname) and port is not None
    return parts.scheme in ("http", "https") and has_end and not parts.path
