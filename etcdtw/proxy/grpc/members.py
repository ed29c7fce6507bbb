"""Which proxies there are: each writes itself into the cluster, and reads the others there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from etcdtw.client import Client
from etcdtw.errors import EtcdError
from etcdtw.pb.kv_pb2 import Event
from etcdtw.pb.rpc_pb2 import Member, MemberListResponse
from etcdtw.rpc import Router, UnaryCall

AGAIN_SECONDS = 1.0

log = Logger(namespace="etcdtw.grpcproxy")


def record_of(address: str, name: str) -> bytes:
    """What stands in the cluster for a proxy, as etcd's ``naming/endpoints`` writes it."""
    metadata = json.dumps({"name": name}, separators=(",", ":"))
    record = {"Op": 0, "Addr": address, "Metadata": metadata}
    return json.dumps(record, separators=(",", ":")).encode()


def read_record(value: bytes) -> tuple[str, str]:
    """Address and name; ValueError for anything else."""
    try:
        record = json.loads(value)
        return str(record["Addr"]), str(json.loads(record["Metadata"])["name"])
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"no record of a proxy: {error!r}") from None


class _Again:
    """Does something that is meant to last again whenever it ends, until it is stopped."""

    def __init__(self, client: Client, what: str, act: Callable[[], Awaitable[None]]) -> None:
        """``what`` it is, for the log."""
        self._client = client
        self._what = what
        self._act = act
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self._act()
            except EtcdError as error:
                log.warn("failed to {what}: {error}", what=self._what, error=str(error))
            await deferLater(self._client.channel.clock, AGAIN_SECONDS)


class Registration(_Again):
    """Keeps this proxy's record in the cluster; it goes with its lease."""

    def __init__(self, client: Client, key: bytes, address: str, name: str, ttl: int) -> None:
        super().__init__(client, "create a session", self._keep_registered)
        self._key = key
        self._address = address
        self._record = record_of(address, name)
        self._ttl = ttl

    async def _keep_registered(self) -> None:
        lease = await self._client.keep_lease(self._ttl)
        try:
            await self._client.kv.put(self._key, self._record, lease=lease.id)
        except EtcdError:
            lease.revoke().addErrback(lambda _: None)  # the next attempt has its own
            raise
        log.info("registered session with lease", addr=self._address, lease_ttl=self._ttl)
        await lease.when_lost()
        log.warn("session expired; possible network partition or server restart")
        log.warn("creating a new session to rejoin")


class Registered(_Again):
    """The proxies that have registered."""

    def __init__(self, client: Client, prefix: bytes) -> None:
        super().__init__(client, "establish endpoint watch", self._follow)
        self._prefix = prefix
        self._found: dict[bytes, tuple[str, str]] = {}

    @property
    def proxies(self) -> list[tuple[str, str]]:
        """Address and name of each."""
        return list(self._found.values())

    async def _follow(self) -> None:
        found = await self._client.kv.get(self._prefix, prefix=True)
        self._found = {}
        for each in found.kvs:
            self._note(each.key, each.value)
        start = found.header.revision + 1
        watch = self._client.watch(self._prefix, prefix=True, start_revision=start)
        try:
            async for event in watch:
                if event.type == Event.PUT:
                    self._note(event.kv.key, event.kv.value)
                else:
                    self._found.pop(event.kv.key, None)
        finally:
            watch.cancel()

    def _note(self, key: bytes, value: bytes) -> None:
        try:
            self._found[key] = read_record(value)
        except ValueError as error:
            named = key.decode("utf-8", "replace")
            log.warn("unmarshal endpoint update failed: {error}", key=named, error=str(error))


class MemberList:
    """``MemberList`` of the proxy: the proxies are what clients should see of the cluster."""

    def __init__(self, address: str, name: str, registered: Registered | None) -> None:
        """``address`` is what this proxy is known by."""
        self._own = [(address, name)]
        self._registered = registered

    def register(self, router: Router) -> None:
        router.add_unary("/etcdserverpb.Cluster/MemberList", self._list)

    def _list(self, call: UnaryCall, body: bytes) -> None:
        proxies = (self._registered.proxies if self._registered else []) or self._own
        members = [Member(name=name, clientURLs=[address]) for address, name in proxies]
        call.reply(MemberListResponse(members=members).SerializeToString())
