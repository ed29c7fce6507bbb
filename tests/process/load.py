"""Concurrent puts whose every acknowledgement is remembered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from tests.process.foreign import ForeignClient

CONNECTIONS = 4
WRITERS_PER_CONNECTION = 6


class Asked(Protocol):
    """What is needed of a client here."""

    def call(self, rpc: str, /, *, key: bytes, range_end: bytes) -> Any: ...


@dataclass
class Acknowledged:
    """What the member has promised so far: one new key per put, so revisions are countable."""

    revisions: dict[bytes, int] = field(default_factory=dict)
    newest: int = 1

    def verify(self, client: Asked) -> list[str]:
        """Everything the member does not keep of its promises, as texts."""
        answer = client.call("KV.Range", key=b"\0", range_end=b"\0")
        stored = {kv.key: kv for kv in answer.kvs}
        broken = []
        if answer.header.revision < self.newest:
            broken.append(f"revision went back from {self.newest} to {answer.header.revision}")
        if answer.header.revision != 1 + answer.count:
            broken.append(f"revision {answer.header.revision} after {answer.count} puts")
        for key, revision in self.revisions.items():
            kv = stored.get(key)
            if kv is None:
                broken.append(f"{key!r} of revision {revision} is lost")
            elif (kv.mod_revision, kv.value) != (revision, value_of(key)):
                moved = f"moved from revision {revision} to {kv.mod_revision}"
                broken.append(f"{key!r} {moved}, value {kv.value!r}")
        self.newest = answer.header.revision
        return broken


def value_of(key: bytes) -> bytes:
    return b"value of " + key


class Load:
    """Writers that put new keys until ``stop`` or until their member is gone."""

    def __init__(self, endpoint: str, name: str, acknowledged: Acknowledged) -> None:
        self._acknowledged = acknowledged
        self._stopping = threading.Event()
        self._clients = [ForeignClient(endpoint) for _ in range(CONNECTIONS)]
        self._writers = [
            threading.Thread(target=self._write, args=(client, f"{name}/{number}/{writer}"))
            for number, client in enumerate(self._clients)
            for writer in range(WRITERS_PER_CONNECTION)
        ]

    def start(self) -> None:
        for writer in self._writers:
            writer.start()

    def _write(self, client: ForeignClient, prefix: str) -> None:
        sequence = 0
        while not self._stopping.is_set():
            key = f"{prefix}/{sequence}".encode()
            try:
                answer = client.call("KV.Put", key=key, value=value_of(key))
            except grpc.RpcError:
                return
            self._acknowledged.revisions[key] = answer.header.revision
            sequence += 1

    def stop(self) -> None:
        self._stopping.set()
        for writer in self._writers:
            writer.join()
        for client in self._clients:
            client.close()
        self._acknowledged.newest = max(
            self._acknowledged.newest, *self._acknowledged.revisions.values()
        )
