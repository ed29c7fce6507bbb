"""The gRPC proxy, put together: services on a router, in front of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from etcdtw.client import Client
from etcdtw.proxy.grpc.forwarding import forward_the_rest
from etcdtw.proxy.grpc.kv_service import KvService
from etcdtw.proxy.grpc.lease_service import LeaseService
from etcdtw.proxy.grpc.members import MemberList, Registered, Registration
from etcdtw.proxy.grpc.namespace import Namespace
from etcdtw.proxy.grpc.upstream import Upstream
from etcdtw.proxy.grpc.watch_service import WatchService
from etcdtw.proxy.grpc.watch_stream import WatchLimits
from etcdtw.rpc import Router


@dataclass(frozen=True)
class ProxySettings:
    """``address`` is what clients know this proxy by (empty: ``MemberList`` is the cluster's own),
    ``name`` the host's; with a ``resolver_prefix`` it registers there, for ``resolver_ttl``
    seconds at a time. ``ordered``: serializable reads never go back."""

    namespace: bytes = b""
    address: str = ""
    name: str = ""
    resolver_prefix: str = ""
    resolver_ttl: int = 0
    send_bytes_max: int = 0
    ordered: bool = False


class GrpcProxy:
    """Serves the cluster behind ``client`` to whoever calls the router's methods."""

    def __init__(
        self, client: Client, settings: ProxySettings, limits: WatchLimits | None = None
    ) -> None:
        self.router = Router()
        self.client = client
        namespace = Namespace(settings.namespace) if settings.namespace else None
        upstream = Upstream(client.channel, settings.send_bytes_max)
        self.watches = WatchService(upstream, namespace, limits)
        self.kv = KvService(upstream, self.watches, namespace, settings.ordered)
        self.leases = LeaseService(upstream, namespace)
        for service in (self.kv, self.watches, self.leases):
            service.register(self.router)
        self._lasting: list[Registration | Registered] = []
        if settings.address:
            self._show_proxies(settings)
        forward_the_rest(self.router, upstream)

    def start(self) -> None:
        for each in self._lasting:
            each.start()

    def stop(self) -> None:
        for each in self._lasting:
            each.stop()
        self.watches.stop()
        self.leases.stop()
        self.client.close()

    def _show_proxies(self, settings: ProxySettings) -> None:
        registered = None
        if settings.resolver_prefix:
            # Proxies meet within their namespace, as etcd's do.
            prefix = settings.namespace + settings.resolver_prefix.encode()
            registered = Registered(self.client, prefix)
            key = prefix + b"/" + settings.address.encode()
            registration = Registration(
                self.client, key, settings.address, settings.name, settings.resolver_ttl
            )
            self._lasting = [registration, registered]
        MemberList(settings.address, settings.name, registered).register(self.router)
