"""What this member writes to another: streams that the other has dialled, and single posts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from etcdtw.counting import PeerCounts
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.peer.codec import StreamWriter
from etcdtw.raft.codec import encode_message
from etcdtw.raft.messages import Message

QUEUED_MESSAGES_MAX = 4096
"""Of a stream that its reader does not keep up with; more are dropped (etcd's bound)."""
WRITE_BYTES = 1 << 20
"""About so much is encoded before the reader may say again that it is behind: what waits for him
may be hundreds of megabytes, as long as it is entries that the log has anyway."""
POSTS_AT_ONCE = 4
POSTS_WAITING_MAX = 64


class Timeouts(NamedTuple):
    """Seconds after which a stream is given up: without a byte to read, without room to write."""

    read: float = 5.0
    write: float = 5.0

    @property
    def beat(self) -> float:
        """Seconds between signs of life."""
        return self.read / 3


class Sink(Protocol):
    """The connection below a stream."""

    def write(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class OutStream:
    """A stream that another member has dialled. Messages of a turn leave in one write."""

    def __init__(
        self,
        sink: Sink,
        writer: StreamWriter,
        clock: IReactorTime,
        timeouts: Timeouts,
        dropped: Callable[[], None],
        counts: PeerCounts,
    ) -> None:
        """``dropped`` is called when a message could not be queued."""
        self._sink = sink
        self._writer = writer
        self._clock = clock
        self._dropped = dropped
        self._queue: deque[Message] = deque()
        self._paused = False
        self._timeouts = timeouts
        self._stuck: IDelayedCall | None = None
        self._beat: IDelayedCall | None = clock.callLater(timeouts.beat, self._send_beat)
        self._counts = counts
        self.is_closed = False

    def send(self, message: Message) -> None:
        if len(self._queue) >= QUEUED_MESSAGES_MAX:
            self._counts.send_failures += 1
            self._dropped()
        else:
            self._queue.append(message)

    def flush(self) -> None:
        """Write what was sent, as far as the reader is not behind."""
        queue, encode = self._queue, self._writer.encode
        while queue and not (self._paused or self.is_closed):
            pieces = []
            size = 0
            while queue and size < WRITE_BYTES:
                pieces.append(encode(queue.popleft()))
                size += len(pieces[-1])
            self._write(b"".join(pieces))

    def pause(self) -> None:
        """The connection is full."""
        self._paused = True
        self._stuck = self._clock.callLater(self._timeouts.write, self.close)

    def resume(self) -> None:
        self._paused = False
        _cancel(self._stuck)
        self.flush()

    def close(self) -> None:
        """End it from our side."""
        if not self.is_closed:
            self.ended()
            self._sink.close()

    def ended(self) -> None:
        """The other side is gone."""
        self.is_closed = True
        self._queue.clear()
        _cancel(self._beat)
        _cancel(self._stuck)

    def _write(self, data: bytes) -> None:
        self._counts.sent_bytes += len(data)
        self._sink.write(data)

    def _send_beat(self) -> None:
        self._beat = self._clock.callLater(self._timeouts.beat, self._send_beat)
        if not self._paused and not self._queue:
            self._write(self._writer.beat())


class Pipeline:
    """Messages that find no stream, each in a post of its own."""

    def __init__(
        self,
        caller: HttpCaller,
        headers: Mapping[bytes, bytes],
        url: Callable[[], str],
        failed: Callable[[str], None],
        refused: Callable[[Answered], None],
        counts: PeerCounts,
    ) -> None:
        """``url`` gives the peer's base URL; ``failed`` is told why a post brought nothing,
        ``refused`` gets an answer that is not 204."""
        self._caller = caller
        self._headers = {**headers, b"Content-Type": b"application/protobuf"}
        self._url = url
        self._failed = failed
        self._refused = refused
        self._waiting: deque[bytes] = deque()
        self._at_once = 0
        self._stopped = False
        self._counts = counts

    def send(self, message: Message) -> bool:
        """Post it now or soon; False if too many wait already."""
        if len(self._waiting) >= POSTS_WAITING_MAX:
            self._counts.send_failures += 1
            return False
        self._waiting.append(encode_message(message))
        self._post_more()
        return True

    def stop(self) -> None:
        self._stopped = True
        self._waiting.clear()

    def _post_more(self) -> None:
        while self._waiting and self._at_once < POSTS_AT_ONCE and not self._stopped:
            body = self._waiting.popleft()
            self._at_once += 1
            self._counts.sent_bytes += len(body)
            post = self._caller.call(b"POST", self._url() + "/raft", self._headers, body)
            post.addCallbacks(self._answered, self._lost)

    def _answered(self, answer: Answered) -> None:
        self._at_once -= 1
        if not self._stopped:
            if answer.status != 204:
                self._refused(answer)
            self._post_more()

    def _lost(self, failure: object) -> None:
        self._at_once -= 1
        self._counts.send_failures += 1
        if not self._stopped:
            self._failed(_reason(failure))
            self._post_more()


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _reason(failure: object) -> str:
    text = getattr(failure, "getErrorMessage", None)
    return str(failure) if text is None else str(text())
