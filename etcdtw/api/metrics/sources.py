"""What the table of metrics reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from etcdtw.api.v2.keys import Keys
from etcdtw.api.v3.cluster import ClusterService
from etcdtw.api.v3.maintenance import MaintenanceService
from etcdtw.api.v3.watch import WatchService
from etcdtw.apply.times import ApplyTimes
from etcdtw.auth import AuthStore
from etcdtw.counting import Histogram, PeerCounts
from etcdtw.lease.lessor import Lessor
from etcdtw.membership import Members
from etcdtw.mvcc.interfaces import IDurableBackend
from etcdtw.mvcc.store import Store
from etcdtw.replica.compactions import Compactions
from etcdtw.replica.replica import Replica
from etcdtw.rpc import Router
from etcdtw.v2store import V2Store


class SavedSnapshots(Protocol):
    """The files of own snapshots."""

    save_seconds: Histogram
    sync_seconds: Histogram


class Exported(Protocol):
    """Databases sent to clients."""

    seconds: Histogram


class HealthChecks(Protocol):
    """How health checks ended."""

    successes: int
    failures: int


class NamedChecks(Protocol):
    """The checks of ``/livez`` or ``/readyz``."""

    name: str
    results: dict[tuple[str, str], int]


class Port(Protocol):
    """The client port."""

    @property
    def connection_count(self) -> int: ...


@dataclass(frozen=True)
class Sources:
    """The rooms of one member."""

    member_id: int
    quota_bytes: int
    replica: Replica
    store: Store
    backend: IDurableBackend
    members: Members
    lessor: Lessor
    auth: AuthStore
    v2store: V2Store
    apply_times: ApplyTimes
    compactions: Compactions
    maintenance: MaintenanceService
    watches: WatchService
    cluster: ClusterService
    keys: Keys
    router: Router
    snap_files: SavedSnapshots
    exports: Exported
    peers: Mapping[int, PeerCounts]
