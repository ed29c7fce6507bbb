"""The JSON gateway's paths and the calls that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from etcdtw.errors import EtcdError
from etcdtw.pb import election_pb2, lock_pb2, rpc_pb2
from etcdtw.rpc import Router
from etcdtw.rpc.router import Method

_KV = "etcdserverpb.KV"
_LEASE = "etcdserverpb.Lease"
_CLUSTER = "etcdserverpb.Cluster"
_MAINTENANCE = "etcdserverpb.Maintenance"
_AUTH = "etcdserverpb.Auth"
_ELECTION = "v3electionpb.Election"
_LOCK = "v3lockpb.Lock"

PATHS = {
    "kv/range": (_KV, "Range"),
    "kv/put": (_KV, "Put"),
    "kv/deleterange": (_KV, "DeleteRange"),
    "kv/txn": (_KV, "Txn"),
    "kv/compaction": (_KV, "Compact"),
    "watch": ("etcdserverpb.Watch", "Watch"),
    "lease/grant": (_LEASE, "LeaseGrant"),
    "lease/revoke": (_LEASE, "LeaseRevoke"),
    "kv/lease/revoke": (_LEASE, "LeaseRevoke"),
    "lease/keepalive": (_LEASE, "LeaseKeepAlive"),
    "lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "kv/lease/timetolive": (_LEASE, "LeaseTimeToLive"),
    "lease/leases": (_LEASE, "LeaseLeases"),
    "kv/lease/leases": (_LEASE, "LeaseLeases"),
    "cluster/member/add": (_CLUSTER, "MemberAdd"),
    "cluster/member/remove": (_CLUSTER, "MemberRemove"),
    "cluster/member/update": (_CLUSTER, "MemberUpdate"),
    "cluster/member/list": (_CLUSTER, "MemberList"),
    "cluster/member/promote": (_CLUSTER, "MemberPromote"),
    "maintenance/alarm": (_MAINTENANCE, "Alarm"),
    "maintenance/status": (_MAINTENANCE, "Status"),
    "maintenance/defragment": (_MAINTENANCE, "Defragment"),
    "maintenance/hash": (_MAINTENANCE, "Hash"),
    "maintenance/hashkv": (_MAINTENANCE, "HashKV"),
    "maintenance/snapshot": (_MAINTENANCE, "Snapshot"),
    "maintenance/transfer-leadership": (_MAINTENANCE, "MoveLeader"),
    "maintenance/downgrade": (_MAINTENANCE, "Downgrade"),
    "auth/enable": (_AUTH, "AuthEnable"),
    "auth/disable": (_AUTH, "AuthDisable"),
    "auth/status": (_AUTH, "AuthStatus"),
    "auth/authenticate": (_AUTH, "Authenticate"),
    "auth/user/add": (_AUTH, "UserAdd"),
    "auth/user/get": (_AUTH, "UserGet"),
    "auth/user/list": (_AUTH, "UserList"),
    "auth/user/delete": (_AUTH, "UserDelete"),
    "auth/user/changepw": (_AUTH, "UserChangePassword"),
    "auth/user/grant": (_AUTH, "UserGrantRole"),
    "auth/user/revoke": (_AUTH, "UserRevokeRole"),
    "auth/role/add": (_AUTH, "RoleAdd"),
    "auth/role/get": (_AUTH, "RoleGet"),
    "auth/role/list": (_AUTH, "RoleList"),
    "auth/role/delete": (_AUTH, "RoleDelete"),
    "auth/role/grant": (_AUTH, "RoleGrantPermission"),
    "auth/role/revoke": (_AUTH, "RoleRevokePermission"),
    "election/campaign": (_ELECTION, "Campaign"),
    "election/proclaim": (_ELECTION, "Proclaim"),
    "election/leader": (_ELECTION, "Leader"),
    "election/observe": (_ELECTION, "Observe"),
    "election/resign": (_ELECTION, "Resign"),
    "lock/lock": (_LOCK, "Lock"),
    "lock/unlock": (_LOCK, "Unlock"),
}
"""Behind ``/v3/``. ``maintenance/hashkv`` is from etcd 3.5.10; older ones have no path for it."""


@dataclass(frozen=True)
class Route:
    """A call: where it goes, and its messages."""

    method: Method
    request_class: type[Message]
    response_class: type[Message]
    takes_stream: bool


def find_routes(router: Router) -> dict[bytes, Route]:
    """The routes by their whole paths, to the methods of a router that serves all of them."""
    return {f"/v3/{path}".encode(): route for path, route in _routes(router)}


def _routes(router: Router) -> Iterator[tuple[str, Route]]:
    for path, (service, name) in PATHS.items():
        descriptor = _service(service).methods_by_name[name]
        method = router.find(f"/{service}/{name}")
        assert not isinstance(method, EtcdError), f"nobody serves {service}/{name}"
        yield (
            path,
            Route(
                method,
                GetMessageClass(descriptor.input_type),
                GetMessageClass(descriptor.output_type),
                descriptor.client_streaming,
            ),
        )


def _service(name: str) -> ServiceDescriptor:
    for file in (rpc_pb2, lock_pb2, election_pb2):
        services: dict[str, ServiceDescriptor] = file.DESCRIPTOR.services_by_name
        for service in services.values():
            if service.full_name.endswith(name):
                return service
    raise AssertionError(f"no service {name}")
