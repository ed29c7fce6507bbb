"""How a member learns which cluster it founds or joins: the contract of bootstrap providers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver
from zope.interface import Attribute, Interface

from etcdtw.tls.interfaces import ITLSContextFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """How to reach the service of v3 discovery, by etcd's flags that begin with ``discovery-``.

    Without endpoints there is none. Times are seconds.
    """

    token: str = ""
    endpoints: tuple[str, ...] = ()
    dial_timeout: float = 2.0
    request_timeout: float = 5.0
    keepalive_time: float = 2.0
    keepalive_timeout: float = 6.0
    insecure_transport: bool = True
    insecure_skip_tls_verify: bool = False
    cert: str = ""
    key: str = ""
    cacert: str = ""
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


class Note(Protocol):
    """One text that a provider may leave for the next start of this member. It is gone when the
    member has a log of its own."""

    def read(self) -> str:
        """The text; empty if there is none."""

    def write(self, text: str) -> None:
        """Keep it: it is there after a power cut. Empty: forget it. OSError."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BootstrapSettings:
    """What providers may know; the fields have the meaning of etcd's flags of that name.

    ``peer_urls`` are this member's own advertised peer URLs. ``initial_cluster`` holds one pair of
    name and sorted peer URLs per member, and is empty when the flag is cleared by another kind of
    bootstrap. ``peer_tls`` is for calling members over https, None where nobody is called yet;
    ``has_authority``: their certificates are checked against ``--peer-trusted-ca-file``.
    ``resolver`` is for DNS; without one, that of the system is used. ``provider`` and
    ``provider_argument`` are the two sides of the colon in ``--bootstrap-provider``.
    ``timeout_seconds`` is for all that a provider asks, 0: its own choice. A list is complete when
    it has ``expected_size`` members, 0: however many. ``data_dir`` is where the member keeps its
    data; other paths are absolute as well. ``note`` is for what must survive a crash before the
    member has a log; None where nothing can be kept.
    """

    name: str
    peer_urls: tuple[str, ...]
    initial_cluster: tuple[tuple[str, tuple[str, ...]], ...] = ()
    initial_cluster_state: str = "new"
    initial_cluster_token: str = "etcd-cluster"
    discovery: str = ""
    discovery_v3: DiscoverySettings = DiscoverySettings()
    discovery_proxy: str = ""
    discovery_fallback: str = "exit"
    discovery_srv: str = ""
    discovery_srv_name: str = ""
    provider: str = ""
    provider_argument: str = ""
    timeout_seconds: float = 0.0
    expected_size: int = 0
    data_dir: str = ""
    peer_tls: Callable[[], ITLSContextFactory] | None = None
    has_authority: bool = False
    resolver: Callable[[], IResolver] | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class PlannedMember:
    """One member of the cluster as it is at the start."""

    id: int
    name: str
    peer_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """The cluster that a member starts into.

    ``members`` are ordered by id, as etcd writes them into the first log entries. ``new`` tells
    founding a cluster (the log begins with its members) from joining one (the log begins empty).
    ``found_by`` is the provider's name where several were asked.
    """

    cluster_id: int
    member_id: int
    members: tuple[PlannedMember, ...]
    token: str
    new: bool
    found_by: str = field(default="", compare=False)


class TimeView(Protocol):
    """What waiting takes of a reactor."""

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any: ...

    def seconds(self) -> float: ...


class ReactorView(TimeView, Protocol):
    """What providers need of a reactor: time, and the address of a host name."""

    def resolve(self, name: str, timeout: Sequence[int] = ...) -> Deferred[str]: ...


class IBootstrapProvider(Interface):
    """One way to find the cluster."""

    def plan(settings: BootstrapSettings) -> Deferred[ClusterPlan]:
        """Find out the cluster.

        The Deferred fails with :class:`etcdtw.errors.ConfigError` when it cannot be founded or
        joined as configured. Which error decides what a chain of providers does:

        * :class:`etcdtw.bootstrap.refusal.BootstrapUnavailable`: nothing was found out (nobody
          answered, nothing is there), so that another provider may know more;
        * any other: something was found that contradicts the configuration (this member is not in
          it, a URL is another one, it cannot be read). Who asks on would found another cluster.

        What may get better by itself is asked again for ``timeout_seconds`` before. Cancelling
        the Deferred gives up and leaves no call or process behind. Nothing but the settings' note
        is written before it has fired.
        """


class IDryRun(Interface):
    """What a provider also provides whose ``plan`` leaves traces, such as a registration."""

    def look(settings: BootstrapSettings) -> Deferred[ClusterPlan | str]:
        """As ``plan``, without the traces; text where there is no plan without them: what was
        found instead, a line or several."""


class IBootstrapFactory(Interface):
    """A provider that can be chosen: found through ``twisted.plugin``, light to import."""

    name = Attribute("str: how it is called in error messages and docs")
    help = Attribute("str: one line for people who choose")
    flags = Attribute("tuple[str, ...]: names of the flags that it reads")

    def claims(settings: BootstrapSettings) -> bool:
        """Whether these settings ask for this provider. Exactly one factory must say yes; where
        ``settings.provider`` has a name, only that of this name is asked for."""

    def provider(reactor: ReactorView) -> IBootstrapProvider:
        """A provider that works on this reactor."""
