"""Costs of single store operations: python -m benchmarks.mvcc_micro [keys]

Prints microseconds per operation (best of several rounds), bytes of memory per key of the index,
and the longest steps of the sliced jobs.
"""

from __future__ import annotations

import gc
import random
import sys
import time
import tracemalloc
from collections.abc import Callable

from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.mvcc.keyindex import KeyIndex
from etcdtw.mvcc.parts import PART_SHIFT
from etcdtw.mvcc.revision import packed
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import PutRequest, RangeRequest
from etcdtw.storage.backend.memory import MemoryBackend

VALUE = b"v" * 256


class NoLeases:
    def exists(self, lease_id: int) -> bool:
        return False


def microseconds(operation: Callable[[int], object], count: int, rounds: int = 5) -> float:
    """The best round's mean."""
    best = float("inf")
    for round_ in range(rounds):
        begin = time.perf_counter()
        for number in range(round_ * count, (round_ + 1) * count):
            operation(number)
        best = min(best, time.perf_counter() - begin)
    return best / count * 1e6


def key_of(number: int) -> bytes:
    return b"/registry/pods/%08d" % number


def longest_step(step: Callable[[], bool]) -> tuple[float, float]:
    """Milliseconds of the longest step, seconds of all; of processor time, since the machine may
    be shared."""
    longest = total = 0.0
    done = False
    while not done:
        begin = time.process_time()
        done = step()
        took = time.process_time() - begin
        longest = max(longest, took)
        total += took
    return longest * 1e3, total


def row(name: str, value: str) -> None:
    print(f"{name:<44}{value:>24}")


def index_bytes(keys: int) -> float:
    """Memory of the index alone, key bytes included."""
    order = list(range(keys))
    random.Random(1).shuffle(order)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    index = KeyIndex()
    for number in order:
        key = key_of(number)
        index.add(hash(key) >> PART_SHIFT, key, packed(number + 2, 0))
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / keys


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    row(f"index, bytes per key ({keys} keys)", f"{index_bytes(keys):.0f}")
    order = list(range(keys))
    random.Random(1).shuffle(order)
    backend = MemoryBackend()
    store = Store(backend)
    applier = KvApplier(store, NoLeases(), HeaderSource(1 << 60, 1 << 61, 7))
    begin = time.perf_counter()
    for number in order:
        store.put_one(key_of(number), VALUE)
    row("put_one, new keys in random order", f"{(time.perf_counter() - begin) / keys * 1e6:.2f} us")
    gc.collect()
    gc.freeze()
    row(
        "put_one, known keys",
        f"{microseconds(lambda n: store.put_one(key_of(n), VALUE), 4000):.2f} us",
    )
    put = PutRequest(key=key_of(7), value=VALUE)
    row("apply put, one key", f"{microseconds(lambda _: applier.put(put), 4000):.2f} us")
    one = key_of(keys // 2)
    row("current_chunk", f"{microseconds(lambda _: store.current_chunk(one), 20000):.2f} us")
    row("apply range_one", f"{microseconds(lambda _: applier.range_one(one), 20000):.2f} us")
    single = RangeRequest(key=one)
    row("apply range, one key", f"{microseconds(lambda _: applier.range(single), 20000):.2f} us")
    many = RangeRequest(key=key_of(1000), range_end=key_of(2000))
    row("apply range, 1,000 keys", f"{microseconds(lambda _: applier.range(many), 100):.0f} us")
    limited = RangeRequest(key=b"/", range_end=b"\0", limit=1000)
    row(
        "apply range, limit 1,000 of all",
        f"{microseconds(lambda _: applier.range(limited), 100):.0f} us",
    )
    hundred = RangeRequest(key=key_of(0), range_end=key_of(100_000))
    row(
        "apply range, 100,000 keys",
        f"{microseconds(lambda _: applier.range(hundred), 1) / 1e3:.1f} ms",
    )
    past = RangeRequest(key=key_of(1000), range_end=key_of(2000), revision=keys // 2)
    row(
        "apply range, 1,000 keys at an old revision",
        f"{microseconds(lambda _: applier.range(past), 20):.0f} us",
    )
    for number in range(0, keys, 2):
        store.put_one(key_of(number), VALUE)
    begin = time.perf_counter()
    seen = sum(len(changes) for _, changes in store.history(2, store.revision, 1000))
    row("history, per revision", f"{(time.perf_counter() - begin) / seen * 1e6:.2f} us")
    begin = time.perf_counter()
    hash_job = store.hash_kv()
    row("hash_kv, begin", f"{(time.perf_counter() - begin) * 1e3:.1f} ms")
    longest, total = longest_step(hash_job.step)
    row("hash_kv, longest step / all", f"{longest:.1f} ms / {total:.2f} s")
    begin = time.perf_counter()
    compaction = store.compact(store.revision)
    row("compact, begin", f"{(time.perf_counter() - begin) * 1e3:.1f} ms")
    longest, total = longest_step(compaction.step)
    row("compact, longest step / all", f"{longest:.1f} ms / {total:.2f} s")
    begin = time.perf_counter()
    Store(backend)
    row("restore, all at once", f"{time.perf_counter() - begin:.2f} s")
    again = Store(backend, restore=False)
    longest, total = longest_step(again.restoring.step)
    row("restore, longest step / all", f"{longest:.1f} ms / {total:.2f} s")


if __name__ == "__main__":
    main()
