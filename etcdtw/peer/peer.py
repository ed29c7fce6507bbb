"""One other member: its URLs, the streams both ways, and whether it can be reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.logger import Logger

from etcdtw.counting import PeerCounts
from etcdtw.ids import format_id
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.peer.codec import (
    AppendReader,
    AppendWriter,
    MessageReader,
    MessageWriter,
    StreamReader,
)
from etcdtw.peer.dialling import StreamDialler
from etcdtw.peer.headers import Identity
from etcdtw.peer.outgoing import OutStream, Pipeline, Sink, Timeouts
from etcdtw.peer.probing import Prober
from etcdtw.raft.messages import Message, MessageType

log = Logger(namespace="etcdtw.peer")

MESSAGE, APPEND = "message", "msgapp"
"""Kinds of stream as paths name them."""


class Owner(Protocol):
    """Who is told about a peer."""

    def received(self, messages: list[Message]) -> None: ...

    def unreachable(self, peer_id: int) -> None: ...

    def removed_from_cluster(self, reason: str) -> None: ...

    def send_snapshot(self, message: Message) -> None: ...


class Peer:
    """``urls`` are tried in turn: whenever one fails the next is used."""

    def __init__(
        self,
        peer_id: int,
        urls: Sequence[str],
        identity: Identity,
        caller: HttpCaller,
        owner: Owner,
        timeouts: Timeouts,
        counts: PeerCounts,
    ) -> None:
        self.id = peer_id
        self.counts = counts
        self.urls = tuple(urls)
        self._turn = 0
        self._told = ""
        self._identity = identity
        self._caller = caller
        self._owner = owner
        self._timeouts = timeouts
        self._clock = caller.reactor
        self._streams_up = 0
        self.active_since: float | None = None
        self._out: dict[str, OutStream] = {}
        headers = identity.headers()
        self._pipeline = Pipeline(
            caller, headers, self.url, self._post_failed, self._post_refused, counts
        )
        self._prober = Prober(caller, peer_id, self.url, counts, timeouts)
        dialled = {**headers, b"X-Raft-To": format_id(peer_id).encode()}
        readers: dict[str, Callable[[], StreamReader]] = {
            MESSAGE: MessageReader,
            APPEND: lambda: AppendReader(peer_id, identity.member_id),
        }
        self._diallers = [
            StreamDialler(
                caller,
                peer_id,
                kind,
                f"/raft/stream/{kind}/{format_id(identity.member_id)}",
                dialled,
                self.url,
                make_reader,
                owner.received,
                self._stream_changed,
                self.next_url,
                self._told_removed,
                timeouts.read,
                counts,
            )
            for kind, make_reader in readers.items()
        ]

    # --- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        for each in self._diallers:
            each.start()
        self._prober.start()

    def stop(self) -> None:
        for dialler in self._diallers:
            dialler.stop()
        for stream in self._out.values():
            stream.close()
        self._pipeline.stop()
        self._prober.stop()
        self.counts.active = False

    def url(self) -> str:
        # A real member takes an update to no URLs at all.
        return self.urls[self._turn % len(self.urls)] if self.urls else ""

    def next_url(self) -> None:
        self._turn += 1

    # --- messages out ----------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue it; ``flush`` ends the batch."""
        if message.type == MessageType.SNAP:
            self._owner.send_snapshot(message)
            return
        stream = None
        if message.type == MessageType.APP:
            stream = self._stream(APPEND)
        stream = stream or self._stream(MESSAGE)
        if stream is not None:
            stream.send(message)
        elif not self._pipeline.send(message):
            self._owner.unreachable(self.id)

    def flush(self) -> None:
        for stream in self._out.values():
            stream.flush()

    def _stream(self, kind: str) -> OutStream | None:
        stream = self._out.get(kind)
        return None if stream is None or stream.is_closed else stream

    def attach(self, kind: str, sink: Sink) -> OutStream:
        """The peer has dialled a stream: what we send goes there from now on."""
        older = self._stream(kind)
        if older is not None:
            older.close()
        writer = AppendWriter() if kind == APPEND else MessageWriter()
        stream = OutStream(
            sink,
            writer,
            self._clock,
            self._timeouts,
            lambda: self._owner.unreachable(self.id),
            self.counts,
        )
        self._out[kind] = stream
        return stream

    # --- whether it is there ---------------------------------------------------------------------

    # Only what is read counts: bytes written to a link that swallows them look sent for long.

    def is_active_for(self, seconds: float) -> bool:
        """Whether it has been connected for so long."""
        since = self.active_since
        return since is not None and self._clock.seconds() - since >= seconds

    def _stream_changed(self, is_up: bool) -> None:
        self._streams_up += 1 if is_up else -1
        if self._streams_up and self.active_since is None:
            self.active_since = self._clock.seconds()
            self.counts.active = True
            self._told = ""
            log.info("peer became active", peer_id=format_id(self.id))
        elif not self._streams_up and self.active_since is not None:
            self.active_since = None
            self.counts.active = False
            self.counts.disconnects += 1
            log.warn("peer became inactive", peer_id=format_id(self.id))
            self._owner.unreachable(self.id)

    def _post_failed(self, reason: str) -> None:
        self.next_url()
        self._owner.unreachable(self.id)

    def _post_refused(self, answer: Answered) -> None:
        self.next_url()
        self._owner.unreachable(self.id)
        text = answer.body[:200].decode("utf-8", "replace").strip()
        if answer.status == 403:
            self._told_removed()
            return
        reason = f"status {answer.status}: {text}"
        if reason != self._told:
            # A leader posts several messages a second to who dials no stream.
            self._told = reason
            log.error(
                "peer refused a message: {reason}",
                reason=reason,
                remote_peer_id=format_id(self.id),
            )

    def _told_removed(self) -> None:
        self._owner.removed_from_cluster("the member has been permanently removed from the cluster")
