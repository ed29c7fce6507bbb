"""From a checked client request to an entry of the log, and from its result to the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from etcdtw.auth import Caller
from etcdtw.errors import EtcdError, NoSpace, RequestTooLarge
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest, RequestHeader
from etcdtw.replica.proposal import Proposal
from etcdtw.replica.replica import Replica
from etcdtw.rpc import UnaryCall
from etcdtw.varint import varint

_HEADER_FIELD = InternalRaftRequest.DESCRIPTOR.fields_by_name["header"].number
_HEADER_TAG = b"\xa2\x06"
_TAGS = {
    field.name: (varint(field.number << 3 | 2), field.number < _HEADER_FIELD)
    for field in InternalRaftRequest.DESCRIPTOR.fields
    if field.message_type is not None and field.name != "header"
}


_MORE = [bytes((n | 0x80,)) for n in range(0x80)]


@lru_cache(maxsize=16)
def _header_around(id_rest: int) -> tuple[bytes, bytes]:
    """The header field for a request id, up to and from behind the first byte of the id's varint;
    ``id_rest``, not 0, is the id without its lowest seven bits. Ids count up, so that 128 in a row
    share this."""
    rest = varint(id_rest)
    return _HEADER_TAG + bytes((2 + len(rest),)) + b"\x08", rest


def entry_data(kind: str, raw: bytes, request_id: int) -> bytes:
    """The bytes of an InternalRaftRequest that holds ``raw`` as its member ``kind`` and a header
    with the id; fields ascend, as every etcd encoder writes them."""
    assert request_id > 0x7F, f"request id {request_id}: ids begin with the member's"
    tag, before_header = _TAGS[kind]
    start, rest = _header_around(request_id >> 7)
    first = _MORE[request_id & 0x7F]
    if before_header:
        return b"".join((tag, varint(len(raw)), raw, start, first, rest))
    return b"".join((start, first, rest, tag, varint(len(raw)), raw))


def entry_data_for(kind: str, raw: bytes, request_id: int, caller: Caller) -> bytes:
    """The same with a caller in the header."""
    header = RequestHeader(ID=request_id, username=caller.name, auth_revision=caller.revision)
    around = header.SerializeToString()
    tag, before_header = _TAGS[kind]
    pieces = [tag, varint(len(raw)), raw]
    own = [_HEADER_TAG, varint(len(around)), around]
    return b"".join(pieces + own if before_header else own + pieces)


class Quota(Protocol):
    """Says whether a request of this cost would go over the space quota."""

    def exceeded_by(self, cost: int) -> bool: ...


class NoSpaceAlarm(Protocol):
    """Proposes the alarm and calls ``done`` once it is applied or has failed: whoever was told
    that there is no space must find the alarm raised."""

    def raise_alarm(self, done: Callable[[], None]) -> None:
        """This member's, where it does not stand."""

    def raise_first(self, done: Callable[[], None]) -> None:
        """This member's, where none stands."""


class _CallProposal(Proposal):
    """Hands its result to a unary call."""

    __slots__ = ("_call", "_no_space")

    def __init__(self, kind: str, request: object, call: UnaryCall, no_space: NoSpaceAlarm) -> None:
        # Not by the base's, for speed; ``data`` and ``deadline`` come on the way.
        self.kind = kind
        self.request = request
        self._call = call
        self._no_space = no_space

    def done(self, result: object) -> None:
        if isinstance(result, bytes):
            self._call.reply(result)
            return
        assert isinstance(result, EtcdError), f"no answer in {result!r}"
        if isinstance(result, NoSpace):
            self._no_space.raise_first(lambda: self._call.fail(result))
        else:
            self._call.fail(result)


class Submitter:
    """Puts requests into the log: numbered, within the size limit and, where they take space,
    within the quota."""

    def __init__(
        self,
        replica: Replica,
        quota: Quota,
        max_request_bytes: int,
        no_space: NoSpaceAlarm,
    ) -> None:
        self._replica = replica
        self._quota = quota
        self._max_request_bytes = max_request_bytes
        self._no_space = no_space
        self.caller: Caller | None = None
        """In whose name requests are made; None while auth is off."""

    def submit(
        self,
        kind: str,
        request: object,
        raw: bytes,
        done: Callable[[object], None],
        cost: int = 0,
    ) -> None:
        """Propose ``raw``, the canonical bytes of ``request``; ``done`` gets the apply result or
        an :class:`EtcdError`.

        Raises RequestTooLarge.
        """
        self._propose(Proposal(b"", kind, request, done), raw, cost)

    def answer(
        self, call: UnaryCall, kind: str, request: object, raw: bytes, cost: int = 0
    ) -> None:
        """The same for a request whose result is the answer of a call."""
        self._propose(_CallProposal(kind, request, call, self._no_space), raw, cost)

    def _propose(self, proposal: Proposal, raw: bytes, cost: int) -> None:
        replica = self._replica
        caller = self.caller
        if caller is None:
            data = entry_data(proposal.kind, raw, replica.ids.next())
        else:
            data = entry_data_for(proposal.kind, raw, replica.ids.next(), caller)
        if len(data) > self._max_request_bytes:
            raise RequestTooLarge
        proposal.data = data
        if cost and self._quota.exceeded_by(cost):
            self._no_space.raise_alarm(lambda: proposal.done(NoSpace()))
            return
        replica.propose(proposal)
