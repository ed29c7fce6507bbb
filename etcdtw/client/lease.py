"""Leases that are kept alive for as long as their owner lives."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from etcdtw.client.channel import Channel
from etcdtw.client.services import Leases
from etcdtw.errors import Code, EtcdError
from etcdtw.pb.rpc_pb2 import (
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeResponse,
)
from etcdtw.rpc.outgoing import OutgoingConnection, StreamOutgoing

RETRY_SECONDS = 0.5
_PATH = "/etcdserverpb.Lease/LeaseKeepAlive"


class KeptLease:
    """A lease that is renewed three times per TTL.

    It is lost when the servers say that it is gone, or when it was not renewed for a whole TTL:
    then others may have what was locked by it, even if no server could be asked.
    """

    def __init__(self, keeper: LeaseKeeper, lease_id: int, ttl: int) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.is_lost = False
        self._keeper = keeper
        self._waiting: list[Deferred[None]] = []
        self.renew_call: IDelayedCall | None = None
        self.lost_call: IDelayedCall | None = None

    def when_lost(self) -> Deferred[None]:
        """Fires when the lease is gone, revoked by its owner included."""
        if self.is_lost:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def revoke(self) -> Deferred[LeaseRevokeResponse]:
        """End the lease, and all keys on it, now."""
        self._keeper.forget(self)
        return self._keeper.leases.revoke(self.id)

    def stop_keeping(self) -> None:
        """Renew it no more: it ends by itself after its TTL."""
        self._keeper.forget(self)

    def lost(self) -> None:
        """For the keeper: it is gone."""
        self.is_lost = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


class LeaseKeeper:
    """Renews leases over one stream, which is opened again whenever it ends."""

    def __init__(self, channel: Channel, leases: Leases) -> None:
        self.leases = leases
        self._channel = channel
        self._kept: dict[int, KeptLease] = {}
        self._stream: StreamOutgoing | None = None
        self._connection: OutgoingConnection | None = None
        self._opening = False

    def keep(self, lease_id: int, ttl: int) -> KeptLease:
        """Begin with a lease that was granted just now."""
        lease = self._kept[lease_id] = KeptLease(self, lease_id, ttl)
        self._renewed(lease, ttl)
        return lease

    def forget(self, lease: KeptLease) -> None:
        if self._kept.pop(lease.id, None) is not None:
            _stop_calls(lease)
            lease.lost()

    def close(self) -> None:
        for lease in list(self._kept.values()):
            self.forget(lease)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def _renewed(self, lease: KeptLease, ttl: int) -> None:
        _stop_calls(lease)
        clock = self._channel.clock
        lease.ttl = ttl
        lease.renew_call = clock.callLater(ttl / 3, self._renew, lease)
        lease.lost_call = clock.callLater(ttl, self.forget, lease)

    def _renew(self, lease: KeptLease) -> None:
        lease.renew_call = None
        if self._stream is None:
            self._open()
        else:
            self._ask(lease)

    def _ask(self, lease: KeptLease) -> None:
        assert self._stream is not None, "a lease is renewed on a stream"
        self._stream.send(LeaseKeepAliveRequest(ID=lease.id).SerializeToString())
        clock = self._channel.clock
        lease.renew_call = clock.callLater(lease.ttl / 3, self._renew, lease)

    def _open(self) -> None:
        if not self._opening:
            self._opening = True
            self._channel.wait(self._connected)

    def _connected(self, connection: OutgoingConnection | EtcdError) -> None:
        self._opening = False
        if isinstance(connection, EtcdError):
            if connection.code != Code.UNAVAILABLE:  # else the client is closed
                self._renew_later()
            return
        if not self._kept:
            return
        self._connection = connection
        self._stream = connection.stream(_PATH, self._channel.metadata, self)
        for lease in self._kept.values():
            if lease.renew_call is None:
                self._ask(lease)

    def message_received(self, body: bytes) -> None:
        if self._stream is None:
            return  # we ended it
        try:
            response = LeaseKeepAliveResponse.FromString(body)
        except DecodeError:
            self._stream.cancel()
            self.stream_ended(None, answered=True)  # this server talks nonsense
            return
        lease = self._kept.get(response.ID)
        if lease is None:
            return
        if response.TTL > 0:
            self._renewed(lease, response.TTL)
        else:
            self.forget(lease)

    def stream_ended(self, error: EtcdError | None, answered: bool) -> None:
        if self._stream is None:
            return  # we ended it
        self._stream = None
        cannot_serve = answered and (error is None or error.code == Code.UNAVAILABLE)
        if cannot_serve and self._connection is not None:
            self._channel.leave(self._connection)
        self._renew_later()

    def _renew_later(self) -> None:
        for lease in self._kept.values():
            if lease.renew_call is not None and lease.renew_call.active():
                lease.renew_call.cancel()
            lease.renew_call = self._channel.clock.callLater(RETRY_SECONDS, self._renew, lease)


def _stop_calls(lease: KeptLease) -> None:
    for call in (lease.renew_call, lease.lost_call):
        if call is not None and call.active():
            call.cancel()
