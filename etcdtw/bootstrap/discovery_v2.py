"""Bootstrap by a discovery URL (``--discovery``): members register below one key of any etcd, or of
a discovery service, and the first so many are the cluster.

The conversation is etcd's discovery protocol, over the v2 API. The URL is the cluster's token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.bootstrap.from_http import MOVED, REDIRECTS_MAX, system_tls
from etcdtw.bootstrap.interfaces import (
    BootstrapSettings,
    ClusterPlan,
    IBootstrapProvider,
    IDryRun,
    ReactorView,
)
from etcdtw.bootstrap.refusal import CLUSTER_IS_FULL, BootstrapError, BootstrapUnavailable
from etcdtw.bootstrap.static import check_listed, check_unique, members_text, static_plan
from etcdtw.bootstrap.waiting import a_turn, after
from etcdtw.ids import format_id, member_id
from etcdtw.peer.calling import Answered, Calls, HttpCaller

CONNECT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 3600.0
"""Of one question for the next registration; it is asked again."""
BACKOFF_DOUBLINGS_MAX = 8
"""Pauses of 2, 4, … 256 s while the service does not answer."""
_FORM = {b"content-type": b"application/x-www-form-urlencoded"}
_KEY_NOT_FOUND, _KEY_EXISTS, _HISTORY_CLEARED = 100, 105, 401

T = TypeVar("T")
_Ask = Callable[[BootstrapSettings, Calls, ReactorView], Coroutine[Any, Any, T]]

log = Logger(namespace="etcdtw.discovery")


def claims_discovery(settings: BootstrapSettings) -> bool:
    """Whether a discovery URL is given."""
    return bool(settings.discovery)


@implementer(IBootstrapProvider, IDryRun)
class DiscoveryProvider:
    """Registers the member and waits for the others."""

    def __init__(self, reactor: ReactorView) -> None:
        self._reactor = reactor

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    def look(self, settings: BootstrapSettings) -> Deferred[ClusterPlan | str]:
        return Deferred.fromCoroutine(self._with_caller(settings, token_state))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        return await self._with_caller(settings, discover)

    async def _with_caller(self, settings: BootstrapSettings, ask: _Ask[T]) -> T:
        _check_settings(settings)
        await a_turn(self._reactor)  # what needs no answer was checked before
        caller = HttpCaller(
            self._reactor, CONNECT_SECONDS, tls=system_tls, proxy=settings.discovery_proxy
        )
        try:
            return await ask(settings, caller, self._reactor)
        finally:
            caller.stop()


async def discover(settings: BootstrapSettings, caller: Calls, reactor: ReactorView) -> ClusterPlan:
    """The plan of the cluster that assembles at the settings' discovery URL. BootstrapError."""
    url = settings.discovery
    own = member_id(settings.peer_urls, url)
    service = _Service(settings, caller, reactor, format_id(own))
    members = await service.join(members_text([(settings.name, settings.peer_urls)]))
    listed = replace(settings, initial_cluster=members, initial_cluster_token=url)
    check_listed(listed)
    check_unique(listed)
    return static_plan(listed)


async def token_state(
    settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> ClusterPlan | str:
    """Who has registered, for one who could but does not. BootstrapError if he could not."""
    own = format_id(member_id(settings.peer_urls, settings.discovery))
    return await _Service(settings, caller, reactor, own).state()


async def discovered_urls(
    settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> tuple[str, ...]:
    """The peer URLs of the cluster at the settings' discovery URL, for one who does not belong to
    it: waits until it is complete."""
    service = _Service(settings, caller, reactor, "")
    return await service.look()


def _check_settings(settings: BootstrapSettings) -> None:
    if settings.initial_cluster_state == "existing":
        raise _refusal(
            settings, "discovery URL should not be set when joining existing initial cluster"
        )
    parts = urlsplit(settings.discovery)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refusal(settings, "it is no http or https URL")
    if parts.scheme == "https" and settings.discovery_proxy:
        raise _refusal(settings, "https through --discovery-proxy is not in this build yet")


class _Unreachable(Exception):
    """The service did not answer, or not as one; it is asked again."""


class _V2Error(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class _Registered:
    """One registration: whose it is, what it says, and when it came among the others."""

    name: str
    value: str
    created: int


@dataclass(frozen=True)
class _Status:
    registered: tuple[_Registered, ...]
    size: int
    index: int


class _Service:
    """The other side of the conversation."""

    def __init__(
        self, settings: BootstrapSettings, caller: Calls, reactor: ReactorView, identity: str
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._reactor = reactor
        self._identity = identity
        self._url = settings.discovery.rstrip("/")
        self._retries = 0
        self._known: set[str] = set()
        self._may_be_registered = False
        self._deadline = reactor.seconds() + (settings.timeout_seconds or math.inf)

    async def join(self, value: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Register, and wait until all are there: the members by name."""
        await self._status("cluster status check")  # a full one is not to be burdened
        await self._register(value)
        while True:
            status = await self._status("waiting for other nodes")
            found = await self._wait(status)
            if found is not None:
                return self._members(found, status.size)

    async def look(self) -> tuple[str, ...]:
        """All members' URLs, without being one."""
        while True:
            status = await self._status("cluster status check", full_is_fine=True)
            found = await self._wait(status)
            if found is not None:
                members = self._members(found, status.size)
                return tuple(sorted(url for _, urls in members for url in urls))

    async def state(self) -> str:
        """What one would find who registers now."""
        try:
            status = await self._status_now(full_is_fine=False)
        except _Unreachable as reason:
            raise self._unavailable(str(reason)) from None
        if any(each.name == self._identity for each in status.registered):
            raise self._registered_before()
        there = [each.value for each in status.registered]
        lines = [f"{len(there)} of {status.size} members have registered at {self._url}", *there]
        return "\n".join([*lines, f"this one would register as {self._identity}"])

    # --- steps -----------------------------------------------------------------------------------

    async def _status(self, step: str, full_is_fine: bool = False) -> _Status:
        """Who has registered, however long it takes to be told."""
        while True:
            try:
                return await self._status_now(full_is_fine)
            except _Unreachable as reason:
                await self._back_off(step, reason)

    async def _status_now(self, full_is_fine: bool) -> _Status:
        try:
            size_node, _ = await self._get("/_config/size", ANSWER_SECONDS)
            listing, index = await self._get("", ANSWER_SECONDS)
        except _V2Error as error:
            if error.code == _KEY_NOT_FOUND:
                raise self._no_size() from None
            raise self._failed(str(error)) from None
        text = size_node.get("value", "")
        if not text.isdecimal() or not int(text):
            raise self._failed("discovery: size key is bad", f"it is {text!r}")
        size = int(text)
        registered = sorted(
            (
                _Registered(_base(each), each.get("value", ""), each.get("createdIndex", 0))
                for each in listing.get("nodes") or ()
                if _base(each) != "_config"
            ),
            key=lambda each: each.created,
        )
        is_ours = self._identity in [each.name for each in registered[:size]]
        if not is_ours and len(registered) >= size and not full_is_fine:
            raise self._full()
        return _Status(tuple(registered[:size]), size, index)

    async def _register(self, value: str) -> None:
        body = urlencode({"value": value}).encode()
        url = f"{self._url}/{self._identity}?prevExist=false"
        while True:
            try:
                self._may_be_registered = True
                answered = await self._call(b"PUT", url, _FORM, body, ANSWER_SECONDS)
                _event(answered)
                return
            except _Unreachable as reason:
                # Whether it was heard is unknown; if so, we are told that we are there already.
                await self._back_off("registration", reason)
                if await self._is_registered(value):
                    return
            except _V2Error as error:
                if error.code == _KEY_EXISTS:
                    raise self._registered_before() from None
                raise self._failed(str(error)) from None

    async def _is_registered(self, value: str) -> bool:
        status = await self._status("registration")
        return any(
            each.name == self._identity and each.value == value for each in status.registered
        )

    async def _wait(self, status: _Status) -> list[_Registered] | None:
        """All members; None if the service has to be asked from the beginning."""
        found = list(status.registered)
        index = status.index
        for each in found:
            self._tell(each.name)
        while len(found) < status.size:
            missing = status.size - len(found)
            log.info(
                "found {found} peer(s), waiting for {missing} more",
                found=len(found),
                missing=missing,
                discovery_url=self._url,
            )
            query = f"?wait=true&recursive=true&waitIndex={index + 1}"
            try:
                seconds = min(WAIT_SECONDS, self._deadline - self._reactor.seconds())
                node, _ = await self._get(query, max(seconds, ANSWER_SECONDS))
            except _Unreachable as reason:
                await self._back_off("waiting for other nodes", reason)
                return None
            except _V2Error as error:
                if error.code == _HISTORY_CLEARED:
                    return None
                raise self._failed(str(error)) from None
            index = max(index + 1, node.get("modifiedIndex", 0))
            name = _base(node)
            if name not in [each.name for each in found] and "value" in node and name != "size":
                self._tell(name)
                found.append(_Registered(name, node["value"], node.get("createdIndex", 0)))
        log.info("found all needed peers from discovery server", discovery_url=self._url)
        return found

    def _tell(self, name: str) -> None:
        if name not in self._known:
            self._known.add(name)
            who = "self" if name == self._identity else "peer"
            log.info(f"found {who} from discovery server", peer=name, discovery_url=self._url)

    def _members(
        self, found: Sequence[_Registered], size: int
    ) -> tuple[tuple[str, tuple[str, ...]], ...]:
        members: dict[str, set[str]] = {}
        for each in found:
            for pair in each.value.split(","):
                name, mark, url = pair.partition("=")
                parts = urlsplit(url)
                if not mark or not name or not parts.scheme or not parts.netloc:
                    raise self._failed("discovery: invalid URL", f"{each.name} is {each.value!r}")
                members.setdefault(name, set()).add(url)
        if len(members) != size:
            raise BootstrapError(
                "discovery",
                "failed to join discovery cluster (discovery: found duplicate name)",
                code="ETW-BOOT-DISCOVERY",
                hint=(
                    "member with duplicated name has already been registered; cURL the discovery "
                    "token URL for details; do not reuse discovery token; generate a new one to "
                    f"bootstrap a cluster; registered: {', '.join(each.value for each in found)}"
                ),
            )
        return tuple((name, tuple(sorted(urls))) for name, urls in sorted(members.items()))

    # --- questions -------------------------------------------------------------------------------

    async def _get(self, rest: str, seconds: float) -> tuple[dict[str, Any], int]:
        """A node, and the service's index."""
        answered = await self._call(b"GET", self._url + rest, {}, b"", seconds)
        node = _event(answered)
        try:
            index = int(answered.headers.get(b"x-etcd-index", b"0"))
        except ValueError:
            index = 0
        return node, index

    async def _call(
        self, method: bytes, url: str, headers: dict[bytes, bytes], body: bytes, seconds: float
    ) -> Answered:
        for _ in range(REDIRECTS_MAX):
            try:
                answered = await self._caller.call(method, url, headers, body, seconds)
            except CancelledError:
                raise
            except Exception as error:  # whatever keeps it from answering may pass
                raise _Unreachable(str(error) or type(error).__name__) from None
            self._retries = 0
            if answered.status not in MOVED:
                if answered.status >= 500:
                    raise _Unreachable(f"{url} answered {answered.status}")
                return answered
            url = answered.headers.get(b"location", b"").decode("latin-1")
        raise self._failed("discovery: bad discovery endpoint", "it redirects without end")

    async def _back_off(self, step: str, reason: Exception) -> None:
        self._retries += 1
        seconds = 2.0 ** min(self._retries, BACKOFF_DOUBLINGS_MAX)
        if self._reactor.seconds() + seconds > self._deadline:
            if self._may_be_registered:  # the others may count on this member now
                raise self._failed(f"discovery: timed out {step}", f"{reason}, {self._url}")
            raise self._unavailable(f"timed out with {step}: {reason}")
        log.warn(
            "retry connecting to discovery service: {error}",
            error=str(reason),
            url=self._url,
            reason=step,
            backoff=f"{seconds:g}s",
        )
        await after(self._reactor, seconds)

    # --- refusals --------------------------------------------------------------------------------

    def _failed(self, reason: str, hint: str = "") -> BootstrapError:
        return BootstrapError(
            "discovery",
            f"failed to join discovery cluster ({reason})",
            code="ETW-BOOT-DISCOVERY",
            hint=hint or f"the discovery URL is {self._url}",
        )

    def _unavailable(self, reason: str) -> BootstrapUnavailable:
        return BootstrapUnavailable(
            "discovery",
            f"failed to join discovery cluster (discovery: {reason})",
            code="ETW-BOOT-DISCOVERY",
            hint=f"the discovery URL is {self._url}",
        )

    def _no_size(self) -> BootstrapError:
        return BootstrapError(
            "discovery",
            "failed to join discovery cluster (discovery: size key not found)",
            code="ETW-BOOT-SIZE",
            sentence=(
                "etcd: error: the cluster doesn\N{RIGHT SINGLE QUOTATION MARK}t have a size "
                f"configuration value in {self._url}/_config"
            ),
            hint=f"curl -X PUT {self._url}/_config/size -d value=3",
        )

    def _full(self) -> BootstrapError:
        return BootstrapError(
            "discovery",
            "failed to join discovery cluster (discovery: cluster is full)",
            code=CLUSTER_IS_FULL,
            sentence="etcd: discovery: cluster is full",
            hint="do not reuse discovery token; generate a new one to bootstrap a cluster",
        )

    def _registered_before(self) -> BootstrapError:
        name = self._settings.name
        return BootstrapError(
            "discovery",
            f'member "{name}" has previously registered with discovery service token ({self._url})',
            code="ETW-BOOT-REGISTERED",
            hint=(
                "but etcd could not find valid cluster configuration in the given data dir; check "
                "the given data dir path if the previous bootstrap succeeded, or use a new "
                "discovery token if the previous bootstrap failed"
            ),
        )


def _refusal(settings: BootstrapSettings, reason: str) -> BootstrapError:
    return BootstrapError(
        "discovery", reason, code="ETW-BOOT-DISCOVERY", hint=f"--discovery is {settings.discovery}"
    )


def _event(answered: Answered) -> dict[str, Any]:
    """The node of an answer. A refusal of the v2 API is an error; what is neither is no answer."""
    try:
        found = json.loads(answered.body)
    except ValueError:
        found = None
    if isinstance(found, dict):
        if isinstance(found.get("node"), dict):
            node: dict[str, Any] = found["node"]
            return node
        if isinstance(found.get("errorCode"), int):
            code, message = found["errorCode"], found.get("message")
            text = f"{code}: {message} ({found.get('cause')}) [{found.get('index')}]"
            raise _V2Error(code, text)
    raise _V2Error(0, "discovery: bad discovery endpoint")


def _base(node: dict[str, Any]) -> str:
    return str(node.get("key", "")).rpartition("/")[2]
