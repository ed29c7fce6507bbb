"""Puts of nothing but a key and a value, many at a time: what nearly every write is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etcdtw.mvcc.changes import Change
from etcdtw.mvcc.interfaces import KEY_BUCKET
from etcdtw.mvcc.keyvalue import successor, unchunk
from etcdtw.mvcc.parts import PART_SHIFT
from etcdtw.mvcc.revision import MAIN_SHIFT, revision_key, revision_keys
from etcdtw.varint import SHORT, SHORT_END, varint, varints

if TYPE_CHECKING:
    from etcdtw.mvcc.store import Store

WRITES_TO_HEAT = 8
"""Whether a key is written again and again is looked at so often."""


def put_each(store: Store, puts: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Carry out each pair of a key and a value, neither empty, as a transaction of its own: what
    ``Store.put`` does, written out. Their revisions, as varints."""
    first = store.revision + 1
    revisions = varints(first, len(puts))
    index, recent, backend, lease_of = store.index, store.recent, store.backend, store.lease_of
    currents, histories = index.current, index.history
    young, hot, young_max = recent.young, recent.hot, recent.young_max
    is_heard = bool(store.on_change)
    made: list[bytes] = []  # from ``made_from`` on
    made_from = first
    put_bytes = 0
    for main, ((key, value), revision) in enumerate(zip(puts, revisions, strict=True), first):
        part = hash(key) >> PART_SHIFT
        current = currents[part]
        before = kept = young.get(key)
        if before is None and key in current:
            before = recent.old[part].get(key)
            if before is None:
                # It may be one of those just made.
                backend.put_all(KEY_BUCKET, revision_keys(made_from, len(made)), made)
                made = []
                made_from = main
                before = kept = store.current_chunk(key)
        size = len(value)
        put_bytes += len(key) + size
        value_size = (size < SHORT_END and SHORT[size]) or varint(size)
        if before is None:
            record = b"\x0a%b%b\x10%b\x18%b\x20\x01\x2a%b%b" % (
                varint(len(key)),
                key,
                revision,
                revision,
                value_size,
                value,
            )
            size = len(record)
            chunk = b"\x12%b%b" % ((size < SHORT_END and SHORT[size]) or varint(size), record)
            index.add(part, key, main << MAIN_SHIFT)
            recent.add(part, key, chunk)
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
            size = len(record)
            chunk = b"\x12%b%b" % ((size < SHORT_END and SHORT[size]) or varint(size), record)
            known = histories[part].get(key)
            if type(known) is list:
                known.append(current[key])
            else:
                index.remember(part, key, current[key])
            current[key] = main << MAIN_SHIFT
            if kept is None:
                recent.keep(key, chunk)
            else:
                young[key] = chunk
                recent.used += len(chunk) - len(kept)
                if recent.used > young_max:
                    recent.settle()
                elif parts is not None:
                    hot[key] = chunk, head, version
                elif not version % WRITES_TO_HEAT:
                    recent.heat(key, chunk, head, version)
        if lease_of:
            store.set_lease(key, 0)
        if is_heard:
            backend.put(KEY_BUCKET, revision_key(main, 0), record)
            prev = None if before is None else unchunk(before)
            store.publish(main, [Change(key, record, False, prev, before is None)])
        else:
            made.append(record)
    store.revision = first + len(puts) - 1
    store.puts += len(puts)
    store.put_bytes += put_bytes
    backend.put_all(KEY_BUCKET, revision_keys(made_from, len(made)), made)
    return revisions
