"""Puts of nothing but a key and a value, many at a time: what nearly every write is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.interfaces import KEY_BUCKET
from etcdtw.mvcc.keyvalue import successor, unchunk
from etcdtw.mvcc.revision import MAIN_SHIFT, revision_key
from etcdtw.varint import varint, varints

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store

WRITES_TO_HEAT = 8
"""Whether a key is written again and again is looked at so often."""


def put_each(store: Store, puts: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Carry out each pair of a key and a value, neither empty, as a transaction of its own: what
    ``Store.put`` does, written out. Their revisions, as varints."""
    main = store.revision
    revisions = varints(main + 1, len(puts))
    index, recent, backend, lease_of = store.index, store.recent, store.backend, store.lease_of
    hot, half = recent.hot, recent.half
    is_heard = bool(store.on_change)
    made_keys: list[bytes] = []
    made: list[bytes] = []
    value_bytes = 0
    for (key, value), revision in zip(puts, revisions, strict=True):
        main += 1
        before = recent.young.get(key)
        if before is None and key in index.current:
            # It may be one of those just made.
            backend.put_all(KEY_BUCKET, made_keys, made)
            made_keys, made = [], []
            before = store.current_chunk(key)
        value_size = varint(len(value))
        if before is None:
            record = b"\x0a%b%b\x10%b\x18%b\x20\x01\x2a%b%b" % (
                varint(len(key)),
                key,
                revision,
                revision,
                value_size,
                value,
            )
            chunk = b"\x12%b%b" % (varint(len(record)), record)
            index.add(key, main << MAIN_SHIFT)
            recent.keep(key, chunk)
        else:
            parts = hot.get(key)
            if parts is not None and parts[0] is before:
                _, head, version = parts
                version += 1
            else:
                head, version = successor(before, len(key))
                version += 1
                parts = None
            record = b"%b\x18%b\x20%b\x2a%b%b" % (
                head,
                revision,
                varint(version),
                value_size,
                value,
            )
            chunk = b"\x12%b%b" % (varint(len(record)), record)
            index.replace(key, main << MAIN_SHIFT)
            recent.young[key] = chunk
            recent.used += len(chunk) - len(before)
            if recent.used > half:
                recent.turn_old()
            elif parts is not None:
                hot[key] = chunk, head, version
            elif not version % WRITES_TO_HEAT:
                recent.heat(key, chunk, head, version)
        value_bytes += len(key) + len(value)
        if lease_of:
            store.set_lease(key, 0)
        if is_heard:
            backend.put(KEY_BUCKET, revision_key(main, 0), record)
            prev = None if before is None else unchunk(before)
            store.publish(main, [Change(key, record, False, prev, before is None)])
        else:
            made_keys.append(revision_key(main, 0))
            made.append(record)
    store.revision = main
    store.puts += len(puts)
    store.put_bytes += value_bytes
    backend.put_all(KEY_BUCKET, made_keys, made)
    return revisions
