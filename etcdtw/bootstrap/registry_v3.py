"""The keys of v3 discovery below one token, in any etcd, and etcd 3.6's log lines about them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from etcdtw.bootstrap.interfaces import DiscoverySettings
from etcdtw.bootstrap.registry import (
    Refusals,
    Registered,
    Status,
    Unreachable,
    parse_size,
    status_of,
)
from etcdtw.client import Client, Watch, WatchCompacted, created
from etcdtw.client.txn import put
from etcdtw.errors import AuthNotEnabled, Code, EtcdError
from etcdtw.pb.kv_pb2 import Event, KeyValue
from etcdtw.pb.rpc_pb2 import AuthenticateRequest, AuthenticateResponse

REGISTRY = "/_etcd/registry"
REQUEST_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 30.0
"""A watch outlives its server, and would wait for a dead one without a word."""
_FINAL = (Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED)
_AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"

T = TypeVar("T")

log = Logger(namespace="etcdtw.discovery")


class V3Registry:
    """The keys below a token."""

    def __init__(self, settings: DiscoverySettings, client: Client, clock: IReactorTime) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        # A token may have slashes and dots: etcd tidies the whole key.
        base = posixpath.normpath(f"{REGISTRY}/{settings.token}")
        self._size_key = f"{base}/_config/size"
        self._members_key = f"{base}/members"
        self._revision = 0
        self._watch: Watch | None = None
        endpoints = ",".join(settings.endpoints)
        self.where = {"discovery_token": settings.token, "discovery_endpoints": endpoints}
        self.refusals = Refusals(
            flag="discovery-token",
            place=f"{settings.token} at {endpoints}",
            make_size=f"etcdctl --endpoints={endpoints} put {self._size_key} 3",
            bad_url="discovery: invalid peer URL",
        )

    async def status(self) -> Status:
        self._stop_watching()
        await self._authenticate()
        found = await self._asked(
            self._client.kv.get(self._size_key), "get cluster size from discovery service"
        )
        if not found.kvs:
            raise self.refusals.no_size()
        try:
            size = parse_size(found.kvs[0].value.decode(errors="replace"))
        except ValueError as error:
            raise self.refusals.bad_size(error) from None
        listed = await self._asked(
            self._client.kv.get(self._members_key, prefix=True),
            "get cluster members from discovery service",
        )
        self._revision = listed.header.revision
        return status_of(self._registered(listed.kvs), size)

    async def register(self, identity: str, value: str) -> bool:
        key = f"{self._members_key}/{identity}"
        # etcd 3.6 overwrites what is there: a member that lost its data would be in the cluster
        # again, and vote once more.
        done = await self._asked(
            self._client.kv.txn().when(created(key) == 0).then(put(key, value)).commit(),
            "register members itself to the discovery service",
        )
        if done.succeeded:
            log.info(
                "register member itself successfully",
                memberKey=key,
                memberInfo=value,
                **self.where,
            )
        return bool(done.succeeded)

    async def newcomers(self, seconds: float) -> Sequence[Registered] | None:
        if self._watch is None:
            self._watch = self._client.watch(
                self._members_key, prefix=True, start_revision=self._revision + 1
            )
        waiting = self._watch.next_events()
        waiting.addTimeout(min(seconds, LOOK_AGAIN_SECONDS), self._clock)
        try:
            events = await waiting
        except (TimeoutError, WatchCompacted):
            return None
        except EtcdError as error:
            raise self._fault(error, "watch cluster members in discovery service") from None
        if any(each.type == Event.DELETE for each in events):
            return None
        return self._registered(each.kv for each in events)

    def tell_found(self, found: Registered, is_self: bool) -> None:
        log.info(
            "found peer from discovery service",
            memberKey=f"{self._members_key}/{found.identity}",
            memberInfo=found.value,
            **self.where,
        )

    def tell_waiting(self, found: int, size: int) -> None:
        log.info(
            "waiting for peers from discovery service",
            clusterSize=size,
            found_peers=found,
            **self.where,
        )

    def tell_complete(self, found: int, size: int) -> None:
        log.info(
            "found all needed peers from discovery service",
            clusterSize=size,
            found_peers=found,
            **self.where,
        )

    def tell_retry(self, step: str, reason: Exception, seconds: float) -> None:
        log.warn(
            "retry connecting to discovery service",
            reason=step,
            error=str(reason),
            backoff=f"{seconds:g}s",
            **self.where,
        )

    # --- questions -------------------------------------------------------------------------------

    async def _asked(self, answer: Deferred[T], what: str) -> T:
        try:
            return await answer
        except EtcdError as error:
            raise self._fault(error, what) from None

    def _fault(self, error: EtcdError, what: str) -> Exception:
        log.warn(f"failed to {what}", error=str(error), **self.where)
        self._client.channel.metadata.pop("token", None)  # it may have grown old
        if error.code in _FINAL:
            return self.refusals.failed(str(error))
        return Unreachable(str(error))

    async def _authenticate(self) -> None:
        user, password = credentials_of(self._settings)
        channel = self._client.channel
        if not user or "token" in channel.metadata:
            return
        request = AuthenticateRequest(name=user, password=password)
        seconds = positive(self._settings.request_timeout, REQUEST_SECONDS)
        calling: Deferred[AuthenticateResponse] = channel.call(
            _AUTHENTICATE, request, AuthenticateResponse, seconds, True
        )
        try:
            answer = await calling
        except AuthNotEnabled:
            return  # as etcd's own client: everybody may, so this user may
        except EtcdError as error:
            if error.code == Code.UNIMPLEMENTED:
                raise self.refusals.failed(
                    str(error), "the service has no users; --discovery-user has to be left out"
                ) from None
            raise self._fault(error, "authenticate with discovery service") from None
        channel.metadata["token"] = answer.token

    def _registered(self, found: Iterable[KeyValue]) -> list[Registered]:
        registered = []
        for each in found:
            key = each.key.decode(errors="replace").strip()
            value = each.value.decode(errors="replace").strip()
            if not key.startswith(f"{self._members_key}/"):
                continue  # what ends the wait of other kinds of members is no registration
            if "=" in value:
                identity = key.removeprefix(f"{self._members_key}/")
                registered.append(Registered(identity, value, each.create_revision))
            else:
                log.warn(
                    "invalid peer info returned from discovery service",
                    memberKey=key,
                    memberInfo=value,
                    **self.where,
                )
        return registered

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


def credentials_of(settings: DiscoverySettings) -> tuple[str, str]:
    """Name and password; both empty for nobody."""
    if settings.password:
        return settings.user, settings.password
    user, _, password = settings.user.partition(":")
    return user, password


def positive(seconds: float, default: float) -> float:
    """A time that is none stands for the default."""
    return seconds if seconds > 0 else default
