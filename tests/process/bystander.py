"""An ordinary client that works all the while, and complains about every failure."""

from __future__ import annotations

import threading
import time

import grpc

from tests.process.foreign import ForeignClient


class Bystander:
    """Puts and reads back in a loop on its own connection until ``stop``.

    ``failures`` holds what went wrong, ``slowest`` the longest round in seconds.
    """

    def __init__(self, endpoint: str) -> None:
        self.failures: list[str] = []
        self.rounds = 0
        self.slowest = 0.0
        self._client = ForeignClient(endpoint)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.005):
            value = b"%d" % self.rounds
            begin = time.monotonic()
            try:
                self._client.call("KV.Put", key=b"bystander", value=value)
                answer = self._client.call("KV.Range", key=b"bystander")
            except grpc.RpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                continue
            if [kv.value for kv in answer.kvs] != [value]:
                self.failures.append(f"wrote {value!r}, read {answer.kvs}")
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.rounds += 1

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()
