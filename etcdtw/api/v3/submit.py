"""From a checked client request to an entry of the log, and from its result to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Protocol

from etcdtw.apply.quota import request_cost
from etcdtw.auth import Caller
from etcdtw.errors import EtcdError, NoSpace, RequestTooLarge
from etcdtw.pb.raft_internal_pb2 import InternalRaftRequest, RequestHeader
from etcdtw.replica.proposal import Proposal, Submitted
from etcdtw.replica.replica import Replica
from etcdtw.rpc import UnaryCall
from etcdtw.varint import SHORT, SHORT_END, varint

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


def _header_for(caller: Caller, request_id: int) -> bytes:
    """The header field with an id and a caller."""
    header = RequestHeader(ID=request_id, username=caller.name, auth_revision=caller.revision)
    content = header.SerializeToString()
    return _HEADER_TAG + varint(len(content)) + content


def entry_data(kind: str, raw: bytes, request_id: int, caller: Caller | None = None) -> bytes:
    """The bytes of an InternalRaftRequest that holds ``raw`` as its member ``kind`` and a header
    with the id and the caller; fields ascend, as every etcd encoder writes them."""
    assert request_id > 0x7F, f"request id {request_id}: ids begin with the member's"
    if caller is None:
        start, rest = _header_around(request_id >> 7)
        first = _MORE[request_id & 0x7F]
    else:
        start, first, rest = _header_for(caller, request_id), b"", b""
    tag, before_header = _TAGS[kind]
    size = len(raw)
    length = (size < SHORT_END and SHORT[size]) or varint(size)
    if before_header:
        return b"%b%b%b%b%b%b" % (tag, length, raw, start, first, rest)
    return b"%b%b%b%b%b%b" % (start, first, rest, tag, length, raw)


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


_cost_of: Callable[[Submitted], int] = itemgetter(2)


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
        replica.number = self._number
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
        """Propose ``raw``, the canonical bytes of ``request``, which costs at most ``cost`` of the
        quota; ``done`` gets the apply result or an :class:`EtcdError`."""
        self._replica.submit(Proposal(b"", kind, request, done), raw, cost)

    def answer(
        self, call: UnaryCall, kind: str, request: object, raw: bytes, cost: int = 0
    ) -> None:
        """The same for a request whose result is the answer of a call."""
        self._replica.submit(_CallProposal(kind, request, call, self._no_space), raw, cost)

    def _number(self, submitted: Sequence[Submitted]) -> list[Proposal]:
        """Make entries of requests, and refuse those that are too large."""
        ids = self._replica.ids.take(len(submitted))
        total_cost = sum(map(_cost_of, submitted)) if len(submitted) > 1 else submitted[0][2]
        is_scarce = total_cost and self._quota.exceeded_by(total_cost)
        caller = self.caller
        bytes_max = self._max_request_bytes
        numbered = []
        for (proposal, raw, cost), request_id in zip(submitted, ids, strict=True):
            data = entry_data(proposal.kind, raw, request_id, caller)
            if len(data) > bytes_max:
                proposal.done(RequestTooLarge())
            elif is_scarce and cost and self._is_too_much(proposal):
                self._no_space.raise_alarm(partial(proposal.done, NoSpace()))
            else:
                proposal.data = data
                numbered.append(proposal)
        return numbered

    def _is_too_much(self, proposal: Proposal) -> bool:
        return self._quota.exceeded_by(request_cost(proposal.kind, proposal.request))
