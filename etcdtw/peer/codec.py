"""The two kinds of stream between members, without their sockets.

A ``message`` stream carries whole Raft messages. A ``msgappv2`` stream carries what a leader sends
to a follower over and over, appends, which mostly continue where the last one ended: then only
entries and commit index are sent, and both ends keep count of term and index.
"""

from __future__ import annotations

from struct import Struct
from typing import Protocol

from etcdtw.raft.codec import decode_entry, decode_message, encode_entries, encode_message
from etcdtw.raft.messages import NO_NODE, Entry, Message, MessageType

MESSAGE_BYTES_MAX = 512 << 20
"""etcd's limit on the length of a frame."""

_U64 = Struct(">Q")
_BEAT, _ENTRIES, _APPEND = 0, 1, 2

MESSAGE_BEAT = encode_message(Message(MessageType.HEARTBEAT))
"""The body by which a message stream shows that it is alive; it is from and to nobody."""


class BadFrame(ValueError):
    """The peer sent what is no frame of its stream."""


class StreamWriter(Protocol):
    """Frames for one connection."""

    def encode(self, message: Message) -> bytes: ...

    def beat(self) -> bytes:
        """What shows that the stream is alive."""


class StreamReader(Protocol):
    """Messages from one connection."""

    def feed(self, data: bytes) -> list[Message]:
        """Those that ``data`` completes, without what only shows that the stream is alive. Raises
        BadFrame."""


class MessageWriter:
    """Writes a ``message`` stream."""

    def encode(self, message: Message) -> bytes:
        body = encode_message(message)
        return _U64.pack(len(body)) + body

    def beat(self) -> bytes:
        return _U64.pack(len(MESSAGE_BEAT)) + MESSAGE_BEAT


class _Beginning:
    """Of a frame whose end is yet to come. It is looked at again once as much is there as the last
    look showed to be ``wanted``: a frame of many megabytes comes in a thousand reads."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.wanted = 0

    def __bool__(self) -> bool:
        return bool(self._bytes)

    def keep(self, data: bytes) -> None:
        self._bytes += data

    def followed_by(self, data: bytes) -> bytes:
        """All of it, which is kept no more; nothing while that is not enough."""
        self._bytes += data
        if len(self._bytes) < self.wanted:
            return b""
        found, self._bytes, self.wanted = bytes(self._bytes), bytearray(), 0
        return found


class MessageReader:
    """Reads a ``message`` stream."""

    def __init__(self) -> None:
        self._rest = _Beginning()

    def feed(self, data: bytes) -> list[Message]:
        data = self._rest.followed_by(data) if self._rest else data
        found = []
        at = 0
        while len(data) - at >= 8:
            (size,) = _U64.unpack_from(data, at)
            if size > MESSAGE_BYTES_MAX:
                raise BadFrame("rafthttp: error limit exceeded")
            end = at + 8 + size
            if end > len(data):
                self._rest.wanted = end - at
                break
            message = _message(data[at + 8 : end])
            if message.type != MessageType.HEARTBEAT or message.from_ != NO_NODE:
                found.append(message)
            at = end
        self._rest.keep(data[at:])
        return found


class AppendWriter:
    """Writes a ``msgappv2`` stream."""

    def __init__(self) -> None:
        self._term = 0
        self._index = 0

    def encode(self, message: Message) -> bytes:
        assert message.type == MessageType.APP, f"{message.type!r} on a stream of appends"
        entries = message.entries
        continues = (
            message.index == self._index
            and message.log_term == self._term
            and message.log_term == message.term
        )
        if continues:
            self._index += len(entries)
            pieces = [bytes((_ENTRIES,)), _U64.pack(len(entries))]
            for body in encode_entries(entries):
                pieces += (_U64.pack(len(body)), body)
            pieces.append(_U64.pack(message.commit))
            return b"".join(pieces)
        self._term = message.term
        self._index = entries[-1].index if entries else message.index
        body = encode_message(message)
        return b"".join((bytes((_APPEND,)), _U64.pack(len(body)), body))

    def beat(self) -> bytes:
        return bytes((_BEAT,))


class AppendReader:
    """Reads a ``msgappv2`` stream from member ``remote`` to member ``local``."""

    def __init__(self, remote: int, local: int) -> None:
        self._remote = remote
        self._local = local
        self._term = 0
        self._index = 0
        self._rest = _Beginning()
        # Of a frame of entries that is under way: those that are there, and how many there are to
        # be. A follower that catches up gets thousands at a time, in a dozen reads.
        self._entries: list[Entry] | None = None
        self._count = 0

    def feed(self, data: bytes) -> list[Message]:
        data = self._rest.followed_by(data) if self._rest else data
        found: list[Message] = []
        at = 0
        try:
            while at < len(data):
                if self._entries is not None:
                    at = self._take_entries(data, at, self._entries)
                    if len(self._entries) < self._count:
                        break
                    commit = _u64(data, at)
                    found.append(self._continued(self._entries, commit))
                    self._entries = None
                    at += 8
                    continue
                kind = data[at]
                if kind == _BEAT:
                    at += 1
                elif kind == _APPEND:
                    size = _size(data, at + 1)
                    end = at + 9 + size
                    if end > len(data):
                        self._rest.wanted = end - at
                        break
                    message = _message(data[at + 9 : end])
                    entries = message.entries
                    self._term = message.term
                    self._index = entries[-1].index if entries else message.index
                    found.append(message)
                    at = end
                elif kind == _ENTRIES:
                    self._count = _size(data, at + 1)
                    if self._count > MESSAGE_BYTES_MAX // 8:
                        raise BadFrame("rafthttp: error limit exceeded")
                    self._entries = []
                    at += 9
                else:
                    raise BadFrame(f"unexpected type {kind} on a stream of appends")
        except _Incomplete:
            pass
        self._rest.keep(data[at:])
        return found

    def _take_entries(self, data: bytes, at: int, entries: list[Entry]) -> int:
        """Read on in a frame of entries, as far as they are whole; where that is."""
        while len(entries) < self._count and at + 8 <= len(data):
            end = at + 8 + _size(data, at)
            if end > len(data):
                self._rest.wanted = end - at
                break
            try:
                entries.append(decode_entry(data[at + 8 : end]))
            except ValueError as error:
                raise BadFrame(str(error)) from None
            at = end
        return at

    def _continued(self, entries: list[Entry], commit: int) -> Message:
        message = Message(
            MessageType.APP,
            to=self._local,
            from_=self._remote,
            term=self._term,
            log_term=self._term,
            index=self._index,
            entries=tuple(entries),
            commit=commit,
        )
        self._index += len(entries)
        return message


class _Incomplete(Exception):
    """The rest of the frame is yet to come."""


def _u64(data: bytes, at: int) -> int:
    if at + 8 > len(data):
        raise _Incomplete
    number: int = _U64.unpack_from(data, at)[0]
    return number


def _size(data: bytes, at: int) -> int:
    size = _u64(data, at)
    if size > MESSAGE_BYTES_MAX:
        raise BadFrame("rafthttp: error limit exceeded")
    return size


def _message(body: bytes) -> Message:
    try:
        return decode_message(body)
    except ValueError as error:
        raise BadFrame(str(error)) from None
