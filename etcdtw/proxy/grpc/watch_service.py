"""``etcdserverpb.Watch`` of the proxy: clients' streams, each with many watches."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import (
    RangeRequest,
    RangeResponse,
)
from etcdtw.proxy.grpc.broadcast import Watcher
from etcdtw.proxy.grpc.namespace import Namespace
from etcdtw.proxy.grpc.streams import SharedStream
from etcdtw.proxy.grpc.upstream import Identity, Metadata, Upstream, identity_of
from etcdtw.proxy.grpc.watch_stream import WatchLimits, WatchStream
from etcdtw.proxy.grpc.watches import WatchCoalescer, WatchCounts
from etcdtw.rpc import Router, StreamCall

PATH = "/etcdserverpb.Watch/Watch"
DOUBT_SECONDS = 5.0


class WatchService:
    """Puts clients of the same identity together."""

    def __init__(
        self,
        upstream: Upstream,
        namespace: Namespace | None = None,
        limits: WatchLimits | None = None,
    ) -> None:
        self.upstream = upstream
        self.namespace = namespace
        self.limits = limits or WatchLimits()
        self.counts = WatchCounts()
        self._sessions: dict[Identity, WatchSession] = {}

    def register(self, router: Router) -> None:
        router.add_stream(PATH, lambda call: self.session(call.metadata).serve(call))

    def session(self, metadata: Metadata) -> WatchSession:
        """Of those who come with the same token and wishes."""
        identity = identity_of(metadata)
        session = self._sessions.get(identity)
        if session is None:
            session = self._sessions[identity] = WatchSession(self, identity)
        return session

    def forget(self, identity: Identity, session: WatchSession) -> None:
        """It has nobody left."""
        if self._sessions.get(identity) is session:
            del self._sessions[identity]

    def stop(self) -> None:
        for each in list(self._sessions.values()):
            each.stream.close()


class WatchSession:
    """Clients who may see the same, and what they watch."""

    def __init__(self, service: WatchService, identity: Identity) -> None:
        self._service = service
        self._identity = identity
        self.limits = service.limits
        self.watches = WatchCoalescer(service.namespace, service.counts)
        self.namespace = service.namespace
        self.stream = SharedStream(service.upstream, PATH, dict(identity), self.watches)
        self.blocked: dict[WatchStream, None] = {}
        self.unwanted: list[Watcher] = []
        """To be taken out when what is being delivered has been."""
        self._channel = service.upstream.channel
        self._metadata = dict(identity)
        self._streams: dict[WatchStream, None] = {}
        self._asking: dict[WatchStream, None] = {}
        self._doubt: Deferred[None] | None = None
        self.watches.on_progress = self._tell_progress
        self.watches.on_delivered = self._delivered
        self.watches.on_doubt = self._look_whether_back
        self.stream.on_refused = self._refused

    def serve(self, call: StreamCall) -> None:
        self._streams[WatchStream(self, call)] = None

    def left(self, stream: WatchStream) -> None:
        """A client is gone."""
        self._streams.pop(stream, None)
        self._asking.pop(stream, None)
        self.watches.progress_wanted = bool(self._asking)
        self.blocked.pop(stream, None)
        self.look()

    def look(self) -> None:
        self.stream.look()
        if not self._streams and self.watches.is_idle:
            self._service.forget(self._identity, self)

    def ask_progress(self, stream: WatchStream) -> None:
        self._asking[stream] = None
        self.watches.ask_progress()
        self.look()

    def _tell_progress(self, header: bytes) -> None:
        asking, self._asking = self._asking, {}
        for each in asking:
            each.tell_progress(header)

    def _delivered(self) -> None:
        """A response was passed on: who cannot keep up is taken out now."""
        blocked, self.blocked = self.blocked, {}
        for each in blocked:
            each.park()
        unwanted, self.unwanted = self.unwanted, []
        for watcher in unwanted:
            self.watches.remove(watcher)
        self.look()

    def _refused(self, error: EtcdError) -> None:
        for each in list(self._streams):
            each.end(error)

    def _look_whether_back(self, revision: int) -> None:
        """A member does not know a revision that was seen. It may be behind the others; if the
        whole cluster is, it is not the same any more."""
        if self._doubt is not None:
            return
        request = RangeRequest(key=b"\0", limit=1, keys_only=True)
        self._doubt = self._channel.call(
            "/etcdserverpb.KV/Range", request, RangeResponse, DOUBT_SECONDS, True, self._metadata
        )

        def answered(response: RangeResponse) -> None:
            self._doubt = None
            if response.header.revision < revision:
                self.watches.went_back(response.header.revision)
                self._delivered()

        def failed(_: object) -> None:
            self._doubt = None  # nothing is proven; the watches stay

        self._doubt.addCallbacks(answered, failed)
