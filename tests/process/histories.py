"""Clients of a cluster whose every question and answer is written down, to be judged afterwards."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import grpc

from etcdtw.testing.linearizability import NEVER, Impossible, Operation, is_linearizable
from tests.process.foreign import ForeignClient, request_class

KEYS = [b"key/%02d" % number for number in range(40)]
PATIENCE_SECONDS = 2.0
READ_SHARE = 0.3
PAUSE_SECONDS = 0.004


def register(state: object, operation: Operation) -> object:
    """A key: ``("put", value)``, or ``("get",)``, which was told the value."""
    if operation.request[0] == "put":
        value: object = operation.request[1]
        return value
    if operation.answer != state:
        raise Impossible
    return state


def settled(operations: Sequence[Operation]) -> list[Operation]:
    """The same history without puts that nobody heard of again, where no two put the same value.

    Such a put, if it took effect, was followed by another one before anybody read, so leaving it
    out explains the same answers; and one whose value was read had taken effect by then. The search
    takes time that doubles with every put that might come at any moment.
    """
    seen: dict[object, float] = {}
    for each in operations:
        if each.request[0] == "get":
            seen[each.answer] = min(each.answered, seen.get(each.answer, NEVER))
    found = []
    for each in operations:
        if each.answered == NEVER:
            each = each._replace(answered=seen.get(each.request[1], NEVER))
        if each.answered != NEVER:
            found.append(each)
    return found


class RecordedLoad:
    """Clients that put values that nobody else puts, and read, until ``finish`` is called and at
    least ``writes`` puts were acknowledged; each asks any of the members, another one after an
    error."""

    def __init__(
        self,
        endpoints: Sequence[str],
        writes: int,
        clients: int = 6,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self.endpoints = list(endpoints)
        """May change while it runs."""
        self.history: dict[bytes, list[Operation]] = {key: [] for key in KEYS}
        self.acknowledged = 0
        self.errors = 0
        self._writes = writes
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._stopping = self._may_end = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        for each in self._threads:
            each.start()

    @property
    def is_done(self) -> bool:
        return self._stopping or (self._may_end and self.acknowledged >= self._writes)

    def stop(self) -> None:
        self._stopping = True
        self.join()

    def finish(self) -> None:
        """Wait for the rest of the writes."""
        self._may_end = True
        self.join()

    def join(self) -> None:
        for each in self._threads:
            each.join()

    def contradictions(self) -> list[str]:
        """The keys whose history cannot have happened."""
        return [
            f"{len(operations)} operations on {key.decode()} have no order that explains them"
            for key, operations in self.history.items()
            if not is_linearizable(settled(operations), b"", register)
        ]

    def _run(self, number: int) -> None:
        dice = random.Random(number)
        client: ForeignClient | None = None
        sent = 0
        while not self.is_done:
            if client is None:
                client = ForeignClient(dice.choice(self.endpoints))
            sent += 1
            key = dice.choice(KEYS)
            reads = dice.random() < READ_SHARE
            done = self._get(client, key) if reads else self._put(client, key, number, sent)
            if not done:
                client.close()
                client = None
                time.sleep(0.05)
            time.sleep(self._pause_seconds)
        if client is not None:
            client.close()

    def _put(self, client: ForeignClient, key: bytes, number: int, sent: int) -> bool:
        value = b"%d-%d" % (number, sent)
        request = request_class("KV.Put")(key=key, value=value)
        asked, answered = time.monotonic(), NEVER
        try:
            client.send("KV.Put", request, seconds=PATIENCE_SECONDS)
            answered = time.monotonic()
        except grpc.RpcError:
            pass
        with self._lock:
            self.history[key].append(Operation(asked, answered, ("put", value)))
            self.acknowledged += answered != NEVER
            self.errors += answered == NEVER
        return answered != NEVER

    def _get(self, client: ForeignClient, key: bytes) -> bool:
        request = request_class("KV.Range")(key=key)
        asked = time.monotonic()
        try:
            found = client.send("KV.Range", request, seconds=PATIENCE_SECONDS).kvs
        except grpc.RpcError:
            return False
        value = found[0].value if found else b""
        with self._lock:
            self.history[key].append(Operation(asked, time.monotonic(), ("get",), value))
        return True
