"""Snapshots between members: a Raft message and behind it the whole database, in one post."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Protocol

from twisted.logger import Logger

from etcdtw.ids import format_id
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.raft.codec import decode_message, encode_message
from etcdtw.raft.messages import Message

SNAPSHOT_PATH = "/raft/snapshot"
MESSAGE_BYTES_MAX = 512 << 20
SEND_SECONDS = 3600.0
_SIZE = Struct(">Q")

log = Logger(namespace="etcdtw.peer")


class Store(Protocol):
    """Where the database behind a message goes."""

    def write(self, data: bytes) -> None: ...

    def discard(self) -> None: ...


class SnapshotBody:
    """Takes the body of a post apart while it comes: the message is kept, the rest goes to a
    store. Looks like a file to whoever receives it."""

    def __init__(self, make_store: Callable[[], Store]) -> None:
        self._make_store = make_store
        self._head = bytearray()
        self.message: Message | None = None
        self.store: Store | None = None
        self.error = ""

    def write(self, data: bytes) -> None:
        if self.error:
            return
        if self.store is not None:
            self._store(data)
            return
        self._head += data
        if len(self._head) < _SIZE.size:
            return
        (size,) = _SIZE.unpack_from(self._head)
        if size > MESSAGE_BYTES_MAX:
            self.error = "rafthttp: error limit exceeded"
            return
        end = _SIZE.size + size
        if len(self._head) < end:
            return
        try:
            self.message = decode_message(bytes(self._head[_SIZE.size : end]))
            self.store = self._make_store()
        except (ValueError, OSError) as error:
            self.error = str(error)
            return
        rest = bytes(self._head[end:])
        self._head = bytearray()
        self._store(rest)

    @property
    def missing(self) -> str:
        """What is wrong with a body that ends before its message does."""
        return "EOF" if len(self._head) in (0, _SIZE.size) else "unexpected EOF"

    def _store(self, data: bytes) -> None:
        assert self.store is not None, "nowhere to put it"
        try:
            self.store.write(data)
        except OSError as error:
            self.error = str(error)

    def discard(self) -> None:
        if self.store is not None:
            self.store.discard()
            self.store = None

    # What the server asks of a body.

    def tell(self) -> int:
        return 0

    def seek(self, position: int, whence: int = 0) -> int:
        return 0

    def read(self, size: int = -1) -> bytes:
        return b""

    def close(self) -> None:
        """The request is over."""


class _Outgoing:
    """A message and an open file as one body to be read."""

    def __init__(self, message: Message, file: Any) -> None:
        body = encode_message(message)
        self._head = _SIZE.pack(len(body)) + body
        self._file = file

    def read(self, size: int) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        self._file.close()


class SnapshotSender:
    """Posts snapshots, one to each member at a time."""

    def __init__(self, identity: Identity, caller: HttpCaller) -> None:
        self._headers = {
            **identity.headers(),
            b"Content-Type": b"application/octet-stream",
        }
        self._caller = caller

    def send(self, message: Message, file: Any, url: str, done: Callable[[bool], None]) -> None:
        """``file`` is read and closed; ``done`` is told whether the member has taken it."""
        to = format_id(message.to)
        post = self._caller.upload(
            url + SNAPSHOT_PATH, self._headers, _Outgoing(message, file), SEND_SECONDS
        )

        def answered(answer: Answered) -> None:
            ok = answer.status == 204
            if ok:
                log.info("sent database snapshot", remote_peer_id=to)
            else:
                text = answer.body[:200].decode("utf-8", "replace").strip()
                log.warn(
                    "failed to send database snapshot: {reason}",
                    reason=f"status {answer.status}: {text}",
                    remote_peer_id=to,
                )
            done(ok)

        def lost(failure: Any) -> None:
            log.warn(
                "failed to send database snapshot: {reason}",
                reason=failure.getErrorMessage(),
                remote_peer_id=to,
            )
            done(False)

        post.addCallbacks(answered, lost)
