"""Streams that this member dials and reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.counting import PeerCounts
from etcdtw.ids import format_id
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.codec import BadFrame, StreamReader
from etcdtw.peer.headers import version_of
from etcdtw.peer.stream_http import StreamRequest
from etcdtw.raft.messages import Message

RETRY_SECONDS = 0.1
OLDEST_READ = (3, 0)
"""Peers of that version and later have both kinds of stream."""
BODY_BYTES_MAX = 512
"""Of a refusal that are read for the log."""

log = Logger(namespace="etcdtw.peer")


class StreamDialler:
    """Keeps one stream from a peer open.

    ``received`` gets the messages of each read, ``changed`` whether the stream is up, ``moved_on``
    is called when the URL did not work, ``removed`` when the peer says that this member was
    removed from the cluster.
    """

    def __init__(
        self,
        caller: HttpCaller,
        peer_id: int,
        kind: str,
        path: str,
        headers: Mapping[bytes, bytes],
        url: Callable[[], str],
        make_reader: Callable[[], StreamReader],
        received: Callable[[list[Message]], None],
        changed: Callable[[bool], None],
        moved_on: Callable[[], None],
        removed: Callable[[], None],
        silent_seconds: float,
        counts: PeerCounts,
    ) -> None:
        """A stream on which nothing comes for ``silent_seconds``, not even a sign of life, is
        given up."""
        self._caller = caller
        self._peer_id = peer_id
        self._kind = kind
        self._path = path
        self._headers = headers
        self._url = url
        self._make_reader = make_reader
        self._received = received
        self._changed = changed
        self._moved_on = moved_on
        self._removed = removed
        self.silent_seconds = silent_seconds
        self._attempt: Deferred[Any] | None = None
        self._stream: _Stream | None = None
        self._retry: IDelayedCall | None = None
        self._stopped = False
        self._told = ""
        self._counts = counts

    def start(self) -> None:
        self._dial()

    def stop(self) -> None:
        self._stopped = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._stream is not None:
            self._stream.close("stopped")

    # --- dialling --------------------------------------------------------------------------------

    def _dial(self) -> None:
        self._retry = None
        self._stream = _Stream(self, self._make_reader())
        try:
            attempt = self._caller.open(self._url() + self._path, self._headers, self._stream)
        except ValueError as error:
            self._stream.forget()
            self._dial_later(str(error))
            return
        self._attempt = attempt
        attempt.addCallbacks(self._connected, self._not_connected)

    def _connected(self, request: StreamRequest) -> None:
        self._attempt = None
        assert self._stream is not None, "connected without having dialled"
        self._stream.begin(request)
        if self._stopped:
            request.close("stopped")

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if self._stream is not None:
            self._stream.forget()
        if failure.check(CancelledError) is None:
            self._dial_later(failure.getErrorMessage())

    def _dial_later(self, reason: str) -> None:
        if self._stopped:
            return
        if reason != self._told:
            self._told = reason
            log.warn(
                "failed to dial stream: {reason}",
                reason=reason,
                stream=self._kind,
                remote_peer_id=format_id(self._peer_id),
            )
        self._moved_on()
        self._retry = self._caller.reactor.callLater(RETRY_SECONDS, self._dial)

    # --- for the stream --------------------------------------------------------------------------

    def refused(self, status: int, text: str) -> None:
        if status == 410:
            self._removed()
        elif status == 404:
            self._dial_later(f"the peer does not know this member: {text}")
        else:
            self._dial_later(f"refused with status {status}: {text}")

    def up(self) -> None:
        self._told = ""
        log.info(
            "established TCP streaming connection with remote peer",
            stream_reader_type=self._kind,
            remote_peer_id=format_id(self._peer_id),
        )
        self._changed(True)

    def data(self, reader: StreamReader, data: bytes) -> None:
        """Raises BadFrame."""
        self._counts.received_bytes += len(data)
        messages = reader.feed(data)
        if messages:
            self._received(messages)

    def lost(self, reason: str) -> None:
        self._changed(False)
        if not self._stopped:
            log.warn(
                "lost TCP streaming connection with remote peer: {reason}",
                reason=reason,
                stream_reader_type=self._kind,
                remote_peer_id=format_id(self._peer_id),
            )
            self._retry = self._caller.reactor.callLater(RETRY_SECONDS, self._dial)

    @property
    def reactor(self) -> Any:
        return self._caller.reactor


class _Stream:
    """One stream, from dialling to its end."""

    def __init__(self, dialler: StreamDialler, reader: StreamReader) -> None:
        self._dialler = dialler
        self._reader = reader
        self._heard = 0.0
        self._silent: IDelayedCall | None = None
        self._status = 0
        self._refusal = b""
        self.request: StreamRequest | None = None

    def begin(self, request: StreamRequest) -> None:
        """Connected, which may have taken longer than a silence may."""
        self.request = request
        reactor, seconds = self._dialler.reactor, self._dialler.silent_seconds
        self._heard = reactor.seconds()
        self._silent = reactor.callLater(seconds, self._too_silent)

    def answered(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        self._status = status
        if status == 200 and version_of(headers) < OLDEST_READ:
            self._status = 0
            self.close("unsupported stream type: the peer is too old")
        elif status == 200:
            self._dialler.up()

    def received(self, data: bytes) -> None:
        self._heard = self._dialler.reactor.seconds()
        if self._status != 200:
            self._refusal = (self._refusal + data)[:BODY_BYTES_MAX]
            if self._refusal.endswith(b"\n"):
                self.close("refused")
            return
        try:
            self._dialler.data(self._reader, data)
        except BadFrame as error:
            self.close(str(error))

    def ended(self, reason: str) -> None:
        self.forget()
        if self._status == 200:
            self._dialler.lost(reason)
        else:
            text = self._refusal.decode("utf-8", "replace").strip()
            self._dialler.refused(self._status, text or reason)

    def forget(self) -> None:
        if self._silent is not None and self._silent.active():
            self._silent.cancel()
        self._silent = None

    def close(self, reason: str) -> None:
        self.forget()
        if self.request is not None:
            self.request.close(reason)

    def _too_silent(self) -> None:
        # Moving a timer for each piece that comes would cost more than looking again.
        dialler = self._dialler
        left = self._heard + dialler.silent_seconds - dialler.reactor.seconds()
        if left > 0:
            self._silent = dialler.reactor.callLater(left, self._too_silent)
        else:
            self._silent = None
            self.close(f"nothing came for {dialler.silent_seconds:g} s")
