"""Names for ``twistd``; nothing heavy is imported here."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

etcd = ServiceMaker(
    "etcdtw member",
    "etcdtw.app.taps.etcd",
    "etcd, the distributed key-value store (one member; takes etcd's flags).",
    "etcd",
)

etcd_gateway = ServiceMaker(
    "etcdtw gateway",
    "etcdtw.app.taps.etcd_gateway",
    "etcd gateway: passes TCP connections on to the members of a cluster.",
    "etcd-gateway",
)

etcd_grpc_proxy = ServiceMaker(
    "etcdtw gRPC proxy",
    "etcdtw.app.taps.etcd_grpc_proxy",
    "etcd gRPC proxy: shares watches, lease renewals and cached reads among its clients.",
    "etcd-grpc-proxy",
)

etcd_dns = ServiceMaker(
    "etcdtw name server",
    "etcdtw.app.taps.etcd_dns",
    "name server for the SRV records of one etcd cluster, for tests and small sites.",
    "etcd-dns",
)

etcd_discovery = ServiceMaker(
    "etcdtw discovery service",
    "etcdtw.app.taps.etcd_discovery",
    "discovery service: where members of new etcd clusters meet.",
    "etcd-discovery",
)

eager_epoll = Reactor(
    "etcdtw",
    "etcdtw.app.reactor",
    "epoll(7), looking for the next request before it sleeps (what the command etcdtw uses).",
)
