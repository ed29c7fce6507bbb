"""Bootstrap by a discovery URL (``--discovery``): members register below one key of any etcd, or of
a discovery service, and the first so many are the cluster.

The conversation is etcd's discovery protocol, over the v2 API. The URL is the cluster's token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

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
from etcdtw.bootstrap.meeting import Meeting, met_plan
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.bootstrap.registry import (
    Refusals,
    Registered,
    Status,
    Unreachable,
    parse_size,
    status_of,
)
from etcdtw.bootstrap.waiting import a_turn
from etcdtw.ids import format_id, member_id
from etcdtw.peer.calling import Answered, Calls, HttpCaller

OK = 200
CONNECT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 3600.0
"""Of one question for the next registration; it is asked again."""
BEHIND_MAX = 5
"""Looks at a service that is behind what it has told, about a minute. Then it is not a member that
lags: the service has lost something."""
_FORM = {b"content-type": b"application/x-www-form-urlencoded"}
_KEY_NOT_FOUND, _KEY_EXISTS, _HISTORY_CLEARED = 100, 105, 401
_GONE = ("delete", "expire", "compareAndDelete")

T = TypeVar("T")

log = Logger(namespace="etcdtw.discovery")


class OpenCalls(Calls, Protocol):
    """A way to the service that is closed in the end."""

    def stop(self) -> None: ...


_Ask = Callable[[BootstrapSettings, Calls, ReactorView], Coroutine[Any, Any, T]]
OpenCaller = Callable[[BootstrapSettings, Any], OpenCalls]


def open_caller(settings: BootstrapSettings, reactor: Any) -> HttpCaller:
    """What calls the service, by way of the proxy if there is one."""
    return HttpCaller(reactor, CONNECT_SECONDS, tls=system_tls, proxy=settings.discovery_proxy)


@implementer(IBootstrapProvider, IDryRun)
class DiscoveryProvider:
    """Registers the member and waits for the others."""

    def __init__(self, reactor: ReactorView, open_caller: OpenCaller = open_caller) -> None:
        self._reactor = reactor
        self._open_caller = open_caller

    def plan(self, settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        return Deferred.fromCoroutine(self._plan(settings))

    def look(self, settings: BootstrapSettings) -> Deferred[ClusterPlan | str]:
        return Deferred.fromCoroutine(self._with_caller(settings, token_state))

    async def _plan(self, settings: BootstrapSettings) -> ClusterPlan:
        return await self._with_caller(settings, discover)

    async def _with_caller(self, settings: BootstrapSettings, ask: _Ask[T]) -> T:
        _check_settings(settings)
        await a_turn(self._reactor)  # what needs no answer was checked before
        caller = self._open_caller(settings, self._reactor)
        try:
            return await ask(settings, caller, self._reactor)
        finally:
            caller.stop()


async def discover(settings: BootstrapSettings, caller: Calls, reactor: ReactorView) -> ClusterPlan:
    """The plan of the cluster that assembles at the settings' discovery URL. BootstrapError."""
    url = settings.discovery
    members = await _meeting(settings, caller, reactor).join(settings, url)
    return met_plan(settings, members, url)


async def token_state(
    settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> ClusterPlan | str:
    """Who has registered, for one who could but does not. BootstrapError if he could not."""
    return await _meeting(settings, caller, reactor).state(settings, settings.discovery)


def _meeting(settings: BootstrapSettings, caller: Calls, reactor: ReactorView) -> Meeting:
    url = settings.discovery
    identity = format_id(member_id(settings.peer_urls, url))
    return Meeting(V2Registry(url, caller), reactor, identity, settings.timeout_seconds)


async def discovered_urls(
    settings: BootstrapSettings, caller: Calls, reactor: ReactorView
) -> tuple[str, ...]:
    """The peer URLs of the cluster at the settings' discovery URL, for one who does not belong to
    it: waits until it is complete."""
    registry = V2Registry(settings.discovery, caller)
    return await Meeting(registry, reactor, timeout_seconds=settings.timeout_seconds).look()


def _check_settings(settings: BootstrapSettings) -> None:
    if settings.initial_cluster_state == "existing":
        raise _refusal(
            settings, "discovery URL should not be set when joining existing initial cluster"
        )
    try:
        parts = urlsplit(settings.discovery)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise _refusal(settings, "it is no http or https URL")


class _V2Error(Exception):
    def __init__(self, code: int, text: str, index: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.index = index


class V2Registry:
    """The keys below a discovery URL."""

    def __init__(self, url: str, caller: Calls) -> None:
        self._url = url.rstrip("/")
        self._caller = caller
        self._index = 0
        self._known_index = 0
        self._behind = 0
        self.refusals = Refusals(
            flag="discovery",
            place=self._url,
            make_size=f"curl -X PUT {self._url}/_config/size -d value=3",
            bad_url="discovery: invalid URL",
            no_size_sentence=(
                "etcd: error: the cluster doesn\N{RIGHT SINGLE QUOTATION MARK}t have a size "
                f"configuration value in {self._url}/_config"
            ),
        )

    async def status(self) -> Status:
        try:
            size, _ = await self._get("/_config/size", ANSWER_SECONDS)
            listing, index = await self._get("", ANSWER_SECONDS)
        except _V2Error as error:
            if error.code == _KEY_NOT_FOUND:
                raise self.refusals.no_size() from None
            raise self.refusals.failed(str(error)) from None
        try:
            wanted = parse_size(str(size.get("value", "")))
        except ValueError as error:
            raise self.refusals.bad_size(error) from None
        self._check_progress(index)
        self._index = self._known_index = index
        nodes = listing.get("nodes") or []
        if not isinstance(nodes, list) or not all(isinstance(each, dict) for each in nodes):
            raise self.refusals.failed("discovery: bad discovery endpoint", "its list is none")
        return status_of((_registered(each) for each in nodes if _base(each) != "_config"), wanted)

    async def register(self, identity: str, value: str) -> bool:
        body = urlencode({"value": value}).encode()
        url = f"{self._url}/{identity}?prevExist=false"
        answered = await self._call(b"PUT", url, _FORM, body, ANSWER_SECONDS)
        try:
            made = _event(answered)["node"]
        except _V2Error as error:
            if error.code == _KEY_EXISTS:
                self._knows(error.index)
                return False
            raise self.refusals.failed(str(error)) from None
        self._knows(_number(made, "createdIndex"))
        return True

    async def newcomers(self, seconds: float) -> Sequence[Registered] | None:
        query = f"?wait=true&recursive=true&waitIndex={self._index + 1}"
        patience = max(min(seconds, WAIT_SECONDS), ANSWER_SECONDS)
        try:
            answered = await self._call(b"GET", self._url + query, {}, b"", patience)
            if answered.status == OK and not answered.body.strip():
                # So ends a wait at an etcd that stops, or that was sent a snapshot.
                raise Unreachable(f"{self._url} ended the wait")
            event = _event(answered)
        except _V2Error as error:
            if error.code == _HISTORY_CLEARED:
                return None
            raise self.refusals.failed(str(error)) from None
        node = event["node"]
        self._index = max(self._index + 1, _number(node, "modifiedIndex"))
        if event.get("action") in _GONE:
            self._knows(self._index)
            return None
        return [_registered(node)] if "value" in node and _base(node) != "size" else []

    def tell_found(self, found: Registered, is_self: bool) -> None:
        who = "self" if is_self else "peer"
        log.info(f"found {who} from discovery server", peer=found.identity, discovery_url=self._url)

    def tell_waiting(self, found: int, size: int) -> None:
        log.info(
            "found {found} peer(s), waiting for {missing} more",
            found=found,
            missing=size - found,
            discovery_url=self._url,
        )

    def tell_complete(self, found: int, size: int) -> None:
        log.info("found all needed peers from discovery server", discovery_url=self._url)

    def tell_retry(self, step: str, reason: Exception, seconds: float) -> None:
        log.warn(
            "retry connecting to discovery service: {error}",
            error=str(reason),
            url=self._url,
            reason=step,
            backoff=f"{seconds:g}s",
        )

    # --- questions -------------------------------------------------------------------------------

    def _knows(self, index: int) -> None:
        self._known_index = max(self._known_index, index)

    def _check_progress(self, index: int) -> None:
        """The URL may lead to a member that has not heard of everything yet: what is missing there
        is not gone."""
        if not 0 < index < self._known_index or self._behind >= BEHIND_MAX:
            self._behind = 0
            return
        self._behind += 1
        raise Unreachable(f"{self._url} is at index {index}, and was at {self._known_index}")

    async def _get(self, rest: str, seconds: float) -> tuple[dict[str, Any], int]:
        """A node, and the service's index."""
        answered = await self._call(b"GET", self._url + rest, {}, b"", seconds)
        node: dict[str, Any] = _event(answered)["node"]
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
                raise Unreachable(str(error) or type(error).__name__) from None
            if answered.status not in MOVED:
                if answered.status >= 500:
                    raise Unreachable(f"{url} answered {answered.status}")
                return answered
            location = answered.headers.get(b"location", b"").decode("latin-1")
            try:
                url = urljoin(url, location)
            except ValueError:
                text = f"it redirects to {location!r}"
                raise self.refusals.failed("discovery: bad discovery endpoint", text) from None
        raise self.refusals.failed("discovery: bad discovery endpoint", "it redirects without end")


def _refusal(settings: BootstrapSettings, reason: str) -> BootstrapError:
    return BootstrapError(
        "discovery", reason, code="ETW-BOOT-DISCOVERY", hint=f"--discovery is {settings.discovery}"
    )


def _event(answered: Answered) -> dict[str, Any]:
    """An answer, which has a node. A refusal of the v2 API is an error; what is neither is no
    answer."""
    try:
        found = json.loads(answered.body)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        if isinstance(found.get("node"), dict):
            return found
        if isinstance(found.get("errorCode"), int):
            code, message = found["errorCode"], found.get("message")
            text = f"{code}: {message} ({found.get('cause')}) [{found.get('index')}]"
            raise _V2Error(code, text, _number(found, "index"))
    raise _V2Error(0, "discovery: bad discovery endpoint")


def _registered(node: dict[str, Any]) -> Registered:
    return Registered(_base(node), str(node.get("value", "")), _number(node, "createdIndex"))


def _number(node: dict[str, Any], name: str) -> int:
    found = node.get(name)
    return found if isinstance(found, int) else 0


def _base(node: dict[str, Any]) -> str:
    return str(node.get("key", "")).rpartition("/")[2]
