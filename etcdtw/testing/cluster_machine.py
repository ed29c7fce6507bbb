"""The state that a simulated cluster replicates: a v2 tree, the members, and a chain of digests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple

from zope.interface import implementer

from etcdtw.membership import Members, MembershipError, apply_v2_request
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.raft.messages import ConfChange, ConfState, Entry, Snapshot
from etcdtw.raft.state_machine import IStateMachine, Proposed, Saved
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.testing.cluster_watch import Watching
from etcdtw.v2store import V2Error, V2Store, recover, save


class Write(NamedTuple):
    """A request on its way into the log: the entry's bytes, their kind, and the decoded form."""

    data: bytes
    kind: str
    request: Any


@implementer(IStateMachine)
class LedgerMachine:
    """Applies v2 requests, and remembers the id of each one with the index where it took effect.

    ``digest`` covers every entry applied so far and every answer given, so two machines with the
    same ``applied_index`` have the same ``digest``, or their histories differ; empty where it is
    not known. ``on_applied`` is called with each entry after it was applied. ``backend`` outlives
    the machine, but for what a crash takes from it.
    """

    def __init__(self, on_applied: OnApplied, backend: MemoryBackend) -> None:
        self.store = V2Store(lambda: 0)
        self.members = Members(self.store, backend)
        self.applied_index = 0
        self.digest = b""
        self.writes: dict[int, int] = {}
        self._on_applied = on_applied

    def apply_run(
        self, entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
    ) -> Sequence[object]:
        return []

    def apply(self, entry: Entry, proposed: Proposed | None) -> object:
        answer = ""
        if entry.data:
            request = Request.FromString(entry.data)
            self.writes.setdefault(request.ID, entry.index)
            try:
                event = apply_v2_request(self.store, self.members, request)
                answer = "" if event is None else event.json()
            except V2Error as error:
                answer = error.json()
        self._advance(entry, answer)
        return answer

    def check_conf_change(self, change: ConfChange) -> MembershipError | None:
        return self.members.check(change)

    def apply_conf_change(
        self, entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        if refused is None:
            self.members.apply(change)
        answer = f"{refused} voters={conf_state.voters} learners={conf_state.learners}"
        self._advance(entry, answer)
        return answer if refused is None else refused

    def look(self, key: bytes) -> tuple[bytes, int]:
        """Value and version of a key, for the history that clients keep; nothing here."""
        return b"", 0

    def current_digest(self) -> bytes:
        """The digest as of ``applied_index``, at any time."""
        return self.digest

    def watch(self, watching: Watching) -> None:
        """Show all changes to a client that watches; there are no revisions here."""

    def wait_durable(self, index: int, done: Callable[[], None]) -> None:
        """Call ``done`` once the backend has every entry up to ``index``; here nothing is in it."""
        done()

    def begin_save(self) -> Saved:
        ledger = {
            "digest": self.digest.hex(),
            "writes": sorted(self.writes.items()),
            "store": save(self.store).decode(),
        }
        return Saved(json.dumps(ledger).encode())

    def restore(self, snapshot: Snapshot) -> None:
        ledger = json.loads(snapshot.data or b"")
        recover(self.store, ledger["store"].encode())
        self.members.recover()
        self.digest = bytes.fromhex(ledger["digest"])
        self.writes = dict(ledger["writes"])
        self.applied_index = snapshot.index

    def _advance(self, entry: Entry, answer: str) -> None:
        said = f"{entry.index} {entry.term} {int(entry.type)} {answer}".encode()
        self.digest = sha256(self.digest + (entry.data or b"") + said).digest()
        self.applied_index = entry.index
        self._on_applied(entry, self)


OnApplied = Callable[[Entry, LedgerMachine], None]


def draw_v2_write(dice: Random, request_id: int) -> Write:
    """Some v2 write on a few keys, so that clients meet."""
    path = f"/1/{dice.choice('abcdef')}"
    kind = dice.randrange(6)
    request = Request(ID=request_id, Method="PUT", Path=path, Val=f"{request_id:x}")
    if kind == 0:
        request.Method, request.Path = "POST", path + "queue"
    elif kind == 1:
        request.Method = "DELETE"
    elif kind == 2:
        request.PrevExist = dice.random() < 0.5
    elif kind == 3:
        request.PrevIndex = dice.randrange(1, 50)
    return Write(request.SerializeToString(), "v2", request)
