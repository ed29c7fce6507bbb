"""Calls without a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etcdtw.errors import EtcdError
from etcdtw.rpc import UnaryCall


class FakeStream:
    """Stands for a ``StreamCall``: remembers what is sent; ``room`` messages fit, then it is not
    writable until ``drain``."""

    is_local = False

    def __init__(self, metadata: dict[str, str] | None = None) -> None:
        self.metadata = metadata or {}
        self.sent: list[bytes] = []
        self.room = 1 << 30
        self.ended = False
        self.error: EtcdError | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.on_cancel: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return self.ended

    @property
    def writable(self) -> bool:
        return len(self.sent) < self.room

    def send(self, body: bytes) -> None:
        self.send_shared(b"", body)

    def send_shared(self, prefix: bytes, body: bytes) -> None:
        assert not self.ended, "sent after the end"
        self.sent.append(prefix + body)

    def send_each(self, prefixes: Sequence[bytes], body: bytes) -> None:
        for prefix in prefixes:
            self.send_shared(prefix, body)

    def finish(self, error: EtcdError | None = None) -> None:
        assert not self.ended, "ended twice"
        self.ended = True
        self.error = error

    def message(self, body: bytes) -> None:
        assert self.on_message is not None, "nobody listens"
        self.on_message(body)

    def drain(self) -> None:
        """The client has read everything and goes on reading."""
        self.room = 1 << 30
        assert self.on_writable is not None, "nobody waits"
        self.on_writable()


class FakeUnary(UnaryCall):
    """Remembers its one answer."""

    def __init__(self) -> None:
        self.answer: bytes | EtcdError | None = None
        self.done = False

    def reply(self, body: bytes) -> None:
        assert self.answer is None, "answered twice"
        self.answer = body

    def fail(self, error: EtcdError) -> None:
        assert self.answer is None, "answered twice"
        self.answer = error
