"""What clients of a simulated etcd asked and were told, key by key, and whether it fits.

Requests that touch several keys are atomic; here each key's part of them is judged on its own. What
is linearizable as a whole is so key by key, so nothing right is refused.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple

from etcdtw.errors import Compacted, EtcdError, FutureRevision, LeaseExists, LeaseNotFound
from etcdtw.pb.rpc_pb2 import PutResponse, TxnResponse
from etcdtw.testing.linearizability import NEVER, Impossible, Operation, is_linearizable

NO_EFFECT = (Compacted, FutureRevision, LeaseExists, LeaseNotFound)
"""Errors that tell for sure that a request changed nothing; others leave it open."""


class KeyState(NamedTuple):
    """What is under a key. ``version`` counts puts since it was created, 0: there is none."""

    value: bytes = b""
    version: int = 0
    lease: int = 0


ABSENT: Final = KeyState()


class Asked(NamedTuple):
    """One key's part of a request. ``kind`` is put, delete, txn, revoke or get."""

    kind: str
    key: bytes
    request: Any = None


def step(before: Any, operation: Operation) -> Hashable:
    """What an operation makes of a key's state; Impossible if it was told something else."""
    asked: Asked = operation.request
    known = operation.answered != NEVER
    request = asked.request
    state: KeyState = before
    if asked.kind == "get":
        if (state.value, state.version) != operation.answer:
            raise Impossible
    elif asked.kind == "put":
        if known and request.prev_kv:
            told = PutResponse.FromString(operation.answer)
            if (told.prev_kv.value, told.prev_kv.version) != (state.value, state.version):
                raise Impossible
        return KeyState(request.value, state.version + 1, request.lease)
    elif asked.kind == "delete":
        return ABSENT
    elif asked.kind == "revoke":
        return ABSENT if state.lease == request.ID else state
    else:
        holds = state.version > request.compare[0].version
        if known and TxnResponse.FromString(operation.answer).succeeded != holds:
            raise Impossible
        put = (request.success if holds else request.failure)[0].request_put
        return KeyState(put.value, state.version + 1, put.lease)
    return state


def parts_of(kind: str, request: Any, keys: Sequence[bytes]) -> list[Asked]:
    """A request's part for each of ``keys`` that it may touch."""
    if kind == "put":
        return [Asked(kind, request.key, request)]
    if kind == "txn":
        return [Asked(kind, request.compare[0].key, request)]
    if kind == "delete_range":
        end = request.range_end or request.key + b"\0"
        return [Asked("delete", key) for key in keys if request.key <= key < end]
    if kind == "lease_revoke":
        return [Asked("revoke", key, request) for key in keys]
    return []


class History:
    """Everything that clients asked, as far as it concerns ``keys``."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self.operations: dict[bytes, list[Operation]] = {key: [] for key in keys}

    def wrote(self, kind: str, request: Any, asked: float, answered: float, answer: object) -> None:
        """A write; ``answered`` NEVER as long as nothing was heard."""
        if isinstance(answer, NO_EFFECT):
            return
        if isinstance(answer, EtcdError):
            answered = NEVER
        for part in parts_of(kind, request, self._keys):
            self.operations[part.key].append(Operation(asked, answered, part, answer))

    def read(self, key: bytes, asked: float, answered: float, value: bytes, version: int) -> None:
        """A linearizable read that was answered."""
        part = Asked("get", key)
        self.operations[key].append(Operation(asked, answered, part, (value, version)))

    def contradictions(self) -> list[str]:
        """One sentence for each key whose history cannot have happened."""
        return [
            f"the {len(operations)} operations on {key.decode()} have no order that explains them"
            for key, operations in self.operations.items()
            if not is_linearizable(operations, ABSENT, step)
        ]
