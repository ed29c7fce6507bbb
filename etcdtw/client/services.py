"""The calls of etcd's services, one method each."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from etcdtw.client.channel import Channel
from etcdtw.client.ranges import Key, first_key_of, range_end_of, to_bytes
from etcdtw.client.txn import Txn
from etcdtw.pb.rpc_pb2 import (
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    CompactionRequest,
    CompactionResponse,
    DefragmentRequest,
    DefragmentResponse,
    DeleteRangeRequest,
    DeleteRangeResponse,
    HashKVRequest,
    HashKVResponse,
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
    MemberAddRequest,
    MemberAddResponse,
    MemberListRequest,
    MemberListResponse,
    MemberPromoteRequest,
    MemberPromoteResponse,
    MemberRemoveRequest,
    MemberRemoveResponse,
    MemberUpdateRequest,
    MemberUpdateResponse,
    MoveLeaderRequest,
    MoveLeaderResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    StatusRequest,
    StatusResponse,
    TxnRequest,
    TxnResponse,
)


class Service:
    """``timeout_seconds`` bounds every call that is not given its own."""

    service = ""

    def __init__(self, channel: Channel, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout = timeout_seconds

    def _call(
        self,
        name: str,
        request: Any,
        response_class: Any,
        timeout_seconds: float | None,
        *,
        repeatable: bool = False,
    ) -> Deferred[Any]:
        return self._channel.call(
            f"/{self.service}/{name}",
            request,
            response_class,
            self._timeout if timeout_seconds is None else timeout_seconds,
            repeatable,
        )


class Kv(Service):
    """Keys and values. Options are fields of the request messages."""

    service = "etcdserverpb.KV"

    def get(
        self, key: Key, *, prefix: bool = False, timeout: float | None = None, **options: Any
    ) -> Deferred[RangeResponse]:
        """One key, or all that begin with it; linearizable unless ``serializable=True``."""
        if prefix:
            options["range_end"] = range_end_of(key, prefix=True)
        request = RangeRequest(key=first_key_of(key) if prefix else to_bytes(key), **options)
        return self._call("Range", request, RangeResponse, timeout, repeatable=True)

    def put(
        self, key: Key, value: Key, *, timeout: float | None = None, **options: Any
    ) -> Deferred[PutResponse]:
        request = PutRequest(key=to_bytes(key), value=to_bytes(value), **options)
        return self._call("Put", request, PutResponse, timeout)

    def delete(
        self, key: Key, *, prefix: bool = False, timeout: float | None = None, **options: Any
    ) -> Deferred[DeleteRangeResponse]:
        """One key, or all that begin with it."""
        if prefix:
            options["range_end"] = range_end_of(key, prefix=True)
        request = DeleteRangeRequest(key=first_key_of(key) if prefix else to_bytes(key), **options)
        return self._call("DeleteRange", request, DeleteRangeResponse, timeout)

    def txn(self, *, timeout: float | None = None) -> Txn:
        """A transaction to fill and commit."""

        def commit(request: TxnRequest) -> Deferred[TxnResponse]:
            return self._call("Txn", request, TxnResponse, timeout)

        return Txn(commit)

    def compact(
        self, revision: int, *, physical: bool = False, timeout: float | None = None
    ) -> Deferred[CompactionResponse]:
        request = CompactionRequest(revision=revision, physical=physical)
        return self._call("Compact", request, CompactionResponse, timeout)


class Leases(Service):
    """Leases; ``Client.keep_lease`` also keeps one alive."""

    service = "etcdserverpb.Lease"

    def grant(
        self, ttl: int, lease_id: int = 0, *, timeout: float | None = None
    ) -> Deferred[LeaseGrantResponse]:
        request = LeaseGrantRequest(TTL=ttl, ID=lease_id)
        return self._call("LeaseGrant", request, LeaseGrantResponse, timeout)

    def revoke(
        self, lease_id: int, *, timeout: float | None = None
    ) -> Deferred[LeaseRevokeResponse]:
        request = LeaseRevokeRequest(ID=lease_id)
        return self._call("LeaseRevoke", request, LeaseRevokeResponse, timeout)

    def time_to_live(
        self, lease_id: int, *, keys: bool = False, timeout: float | None = None
    ) -> Deferred[LeaseTimeToLiveResponse]:
        request = LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return self._call(
            "LeaseTimeToLive", request, LeaseTimeToLiveResponse, timeout, repeatable=True
        )

    def all(self, *, timeout: float | None = None) -> Deferred[LeaseLeasesResponse]:
        return self._call(
            "LeaseLeases", LeaseLeasesRequest(), LeaseLeasesResponse, timeout, repeatable=True
        )


class Cluster(Service):
    """Members."""

    service = "etcdserverpb.Cluster"

    def members(
        self, *, linearizable: bool = True, timeout: float | None = None
    ) -> Deferred[MemberListResponse]:
        request = MemberListRequest(linearizable=linearizable)
        return self._call("MemberList", request, MemberListResponse, timeout, repeatable=True)

    def add(
        self, peer_urls: list[str], *, learner: bool = False, timeout: float | None = None
    ) -> Deferred[MemberAddResponse]:
        request = MemberAddRequest(peerURLs=peer_urls, isLearner=learner)
        return self._call("MemberAdd", request, MemberAddResponse, timeout)

    def remove(
        self, member_id: int, *, timeout: float | None = None
    ) -> Deferred[MemberRemoveResponse]:
        request = MemberRemoveRequest(ID=member_id)
        return self._call("MemberRemove", request, MemberRemoveResponse, timeout)

    def update(
        self, member_id: int, peer_urls: list[str], *, timeout: float | None = None
    ) -> Deferred[MemberUpdateResponse]:
        request = MemberUpdateRequest(ID=member_id, peerURLs=peer_urls)
        return self._call("MemberUpdate", request, MemberUpdateResponse, timeout)

    def promote(
        self, member_id: int, *, timeout: float | None = None
    ) -> Deferred[MemberPromoteResponse]:
        request = MemberPromoteRequest(ID=member_id)
        return self._call("MemberPromote", request, MemberPromoteResponse, timeout)


class Maintenance(Service):
    """What concerns the one member that answers."""

    service = "etcdserverpb.Maintenance"

    def status(self, *, timeout: float | None = None) -> Deferred[StatusResponse]:
        return self._call("Status", StatusRequest(), StatusResponse, timeout, repeatable=True)

    def hash_kv(
        self, revision: int = 0, *, timeout: float | None = None
    ) -> Deferred[HashKVResponse]:
        request = HashKVRequest(revision=revision)
        return self._call("HashKV", request, HashKVResponse, timeout, repeatable=True)

    def defragment(self, *, timeout: float | None = None) -> Deferred[DefragmentResponse]:
        return self._call("Defragment", DefragmentRequest(), DefragmentResponse, timeout)

    def alarms(self, *, timeout: float | None = None) -> Deferred[AlarmResponse]:
        request = AlarmRequest(action=AlarmRequest.GET)
        return self._call("Alarm", request, AlarmResponse, timeout, repeatable=True)

    def disarm(
        self, member_id: int, alarm: AlarmType, *, timeout: float | None = None
    ) -> Deferred[AlarmResponse]:
        request = AlarmRequest(action=AlarmRequest.DEACTIVATE, memberID=member_id, alarm=alarm)
        return self._call("Alarm", request, AlarmResponse, timeout)

    def move_leader(self, to: int, *, timeout: float | None = None) -> Deferred[MoveLeaderResponse]:
        request = MoveLeaderRequest(targetID=to)
        return self._call("MoveLeader", request, MoveLeaderResponse, timeout)
