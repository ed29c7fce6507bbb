"""Put and DeleteRange as steps of a write transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.errors import KeyNotFound, LeaseNotFound
from etcdtw.mvcc.keyvalue import parse_record, unchunk
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.write_txn import WriteTxn
from etcdtw.pb.rpc_pb2 import DeleteRangeRequest, PutRequest
from etcdtw.turns import Work
from etcdtw.varint import varint

Header = Callable[[int], bytes]


class Leases(Protocol):
    """What KV requests need to know of the lessor."""

    def exists(self, lease_id: int, /) -> bool: ...


def check_put(store: Store, leases: Leases, request: PutRequest) -> None:
    """Whether a put can be carried out now: ``KeyNotFound`` for an ignore flag without a key to
    take from, ``LeaseNotFound``."""
    if (request.ignore_value or request.ignore_lease) and request.key not in store.index:
        raise KeyNotFound
    if request.lease and not leases.exists(request.lease):
        raise LeaseNotFound


def put_response(store: Store, txn: WriteTxn, request: PutRequest, header: Header) -> bytes:
    """Carry out a put that ``check_put`` let pass; the body of its PutResponse."""
    key, value, lease = request.key, request.value, request.lease
    before: bytes | None = None
    if request.ignore_value or request.ignore_lease or request.prev_kv:
        before = store.current_chunk(key)
        if before is not None:
            if request.ignore_value:
                value = parse_record(unchunk(before)).value
            if request.ignore_lease:
                lease = parse_record(unchunk(before)).lease
    txn.put(key, value, lease)
    response = header(txn.revision)
    return response + before if request.prev_kv and before is not None else response


def delete_range_response(
    store: Store, txn: WriteTxn, request: DeleteRangeRequest, header: Header
) -> bytes:
    """Carry out a deletion; the body of its DeleteRangeResponse."""
    keys = txn.keys(request.key, request.range_end)
    prev = previous_pairs(store, keys) if request.prev_kv else []
    store.deletes += 1
    store.ranges += request.prev_kv
    if keys:
        txn.delete(keys)
    return joined_response(header(txn.revision), len(keys), prev)


def delete_range_in_turns(
    store: Store, txn: WriteTxn, request: DeleteRangeRequest, header: Header, piece_keys: int
) -> Work[bytes]:
    """``delete_range_response`` for very many keys."""
    prev: list[bytes] = []
    deleted = 0
    store.deletes += 1
    store.ranges += request.prev_kv
    while keys := txn.keys(request.key, request.range_end, piece_keys):
        if request.prev_kv:
            prev += previous_pairs(store, keys)
        txn.delete(keys)
        deleted += len(keys)
        txn.pause()
        yield
    return joined_response(header(txn.revision), deleted, prev)


def previous_pairs(store: Store, keys: list[bytes]) -> list[bytes]:
    """What a DeleteRangeResponse has of keys that are about to be deleted."""
    # A chunk's record stands behind the tag of field 2; here it is field 3.
    return [b"\x1a" + chunk[1:] for chunk in store.current_chunks(keys)]


def joined_response(header: bytes, deleted: int, prev: list[bytes]) -> bytes:
    count = b"\x10" + varint(deleted) if deleted else b""
    return b"".join((header, count, *prev))
