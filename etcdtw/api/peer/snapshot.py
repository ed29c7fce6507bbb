"""``/raft/snapshot``: another member sends its whole state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.api.http.requests import HttpRequest, plain_error
from etcdtw.api.peer.checks import refusal
from etcdtw.peer.headers import sender_of, urls_of
from etcdtw.peer.snapshots import SnapshotBody, Store
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.messages import Message, MessageType


class Receiver(Protocol):
    """Who installs snapshots."""

    def snapshot_received(
        self, message: Message, store: Store, done: Callable[[str], None]
    ) -> None:
        """``done`` gets why it cannot be installed, an empty text once it will be."""


class SnapshotPage:
    """The body has been taken apart while it came."""

    def __init__(self, transport: PeerTransport, receiver: Receiver) -> None:
        self._transport = transport
        self._receiver = receiver

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        body = request.content
        refused = refusal(request, self._transport, b"POST")
        if not isinstance(body, SnapshotBody):
            return refused or plain_error(request, 400, "failed to decode raft message (EOF)")
        refused = refused or self._refusal(request, body)
        if refused is not None:
            body.discard()
            return refused
        assert body.message is not None and body.store is not None, "neither was refused"
        # From here on the receiver has it, also if the sender does not wait for the answer: a
        # thread may be writing to it.
        store, body.store = body.store, None
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done(reason: str) -> None:
            if gone:
                return
            if reason:
                text = f"failed to save KV snapshot ({reason})"
                request.write(plain_error(request, 500, text))
            else:
                request.setResponseCode(204)
            request.finish()

        self._receiver.snapshot_received(body.message, store, done)
        return None

    def _refusal(self, request: HttpRequest, body: SnapshotBody) -> bytes | None:
        message = body.message
        sender = sender_of(request.getHeader)
        if sender is not None:
            self._transport.add_remote(sender, urls_of(request.getHeader))
        if message is None:
            reason = body.error or body.missing
            return plain_error(request, 400, f"failed to decode raft message ({reason})")
        if message.type != MessageType.SNAP or message.snapshot is None:
            return plain_error(request, 400, "wrong raft message type")
        if body.error:
            return plain_error(request, 500, f"failed to save KV snapshot ({body.error})")
        own = self._transport.identity.member_id
        if message.from_ in self._transport.removed or message.to != own:
            return plain_error(request, 500, "failed to process raft message")
        return None
