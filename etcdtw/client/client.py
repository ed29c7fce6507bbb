"""The client as programs use it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from etcdtw.client.channel import Channel, Dice
from etcdtw.client.endpoints import Connector, plain_connector
from etcdtw.client.lease import KeptLease, LeaseKeeper
from etcdtw.client.ranges import Key
from etcdtw.client.services import Cluster, Kv, Leases, Maintenance
from etcdtw.client.watch import Watch, WatchStreams

TIMEOUT_SECONDS = 5.0


class Client:
    """Talks to one cluster. All calls on the reactor's thread.

    Calls give Deferreds of etcd's response messages; they fail with an ``EtcdError``. One made
    while no endpoint answers waits until its timeout. Reads are made again elsewhere when a member
    fails under them, writes only if no member can have seen them.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[str],
        *,
        connector: Connector | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        metadata: Mapping[str, str] | None = None,
        dice: Dice | None = None,
        **options: Any,
    ) -> None:
        """Nothing is connected before the first call. ValueError for an endpoint that is none.

        ``connector`` makes Twisted endpoints for addresses, by default plain TCP and Unix sockets;
        ``metadata`` goes along with every call; ``options`` are the channel's.
        """
        self.channel = Channel(
            reactor,
            endpoints,
            connector or plain_connector(reactor),
            dice or random.Random(),
            metadata=metadata,
            **options,
        )
        self.kv = Kv(self.channel, timeout_seconds)
        self.leases = Leases(self.channel, timeout_seconds)
        self.cluster = Cluster(self.channel, timeout_seconds)
        self.maintenance = Maintenance(self.channel, timeout_seconds)
        self._watches = WatchStreams(self.channel)
        self._keeper = LeaseKeeper(self.channel, self.leases)

    def watch(
        self, key: Key, *, prefix: bool = False, start_revision: int = 0, **options: Any
    ) -> Watch:
        """Events of one key, or of all that begin with it; options are fields of
        WatchCreateRequest."""
        return self._watches.add(key, prefix=prefix, start_revision=start_revision, **options)

    async def keep_lease(self, ttl: int, lease_id: int = 0) -> KeptLease:
        """Grant a lease and keep it alive. ``ttl`` in seconds; the servers may raise it."""
        granted = await self.leases.grant(ttl, lease_id)
        return self._keeper.keep(granted.ID, granted.TTL)

    def set_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these from now on."""
        self.channel.set_endpoints(endpoints)

    def close(self) -> None:
        """End all calls, watches and renewals."""
        self._watches.close()
        self._keeper.close()
        self.channel.close()
