"""The state machine: one method per kind of log entry, in log order, the same on every member.

No decision here may depend on anything local (file size, clock, connections, flags). Over quota a
write is applied all the same and only its caller is told; refusals come from the replicated alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from zope.interface import implementer

from etcdtw.apply.alarms import Alarms
from etcdtw.apply.auth import CHANGES as AUTH_KINDS
from etcdtw.apply.auth import AuthChecks
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.plain_put import PlainPut, is_plain, plain_put_of_entry
from etcdtw.apply.quota import COST_PER_BYTE_MAX, PUT_OVERHEAD, Quota, request_cost
from etcdtw.apply.requests import V2, caller_of, decode_request
from etcdtw.apply.times import ApplyTimes
from etcdtw.auth import AuthStore
from etcdtw.errors import Corrupt, CorruptError, EtcdError, NoSpace
from etcdtw.lease.apply import LeaseApplier
from etcdtw.membership import (
    MEMBERSHIP_KINDS,
    Members,
    apply_membership,
    apply_v2_request,
    conf_state_json,
)
from etcdtw.mvcc.compaction import Compaction
from etcdtw.mvcc.interfaces import IBackend
from etcdtw.pb.rpc_pb2 import CompactionRequest
from etcdtw.raft.messages import ConfChange, ConfState, Entry, EntryType, Snapshot
from etcdtw.raft.sizes import data_bytes
from etcdtw.raft.state_machine import IStateMachine, Proposed, Saving
from etcdtw.turns import TakesTurns, Work
from etcdtw.v2store import Saving as V2Saving
from etcdtw.v2store import V2Error, V2Store, recover

RUN_MAX = 1000
"""Puts that are carried out in one go, at most."""
_TAKES_SPACE = frozenset({"put", "txn", "lease_grant"})
_REFUSED_WHEN_CORRUPT = _TAKES_SPACE | {"delete_range", "lease_revoke", "compaction", "range"}

Handler = Callable[[Any], object]


_ONLY_PLAIN = {tuple}


def _leading_puts(
    entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
) -> list[PlainPut]:
    """Those from a place on and before the first entry that holds something else."""
    puts: list[PlainPut] = []
    for place in range(start, min(len(entries), start + RUN_MAX)):
        entry = entries[place]
        proposed = proposals[place]
        if proposed is not None:
            put = proposed.request
        elif entry.type == EntryType.NORMAL:
            put = plain_put_of_entry(entry.data or b"")
        else:
            break
        if not is_plain(put):
            break
        puts.append(put)
    return puts


@implementer(IStateMachine)
class Applier:
    """Applies committed entries to the store, the leases, the alarms and the membership."""

    def __init__(
        self,
        backend: IBackend,
        kv: KvApplier,
        leases: LeaseApplier,
        v2store: V2Store,
        members: Members,
        alarms: Alarms,
        quota: Quota,
        auth: AuthStore,
    ) -> None:
        self._backend = backend
        self._v2store = v2store
        self._members = members
        self._alarms = alarms
        self._quota = quota
        self._kv = kv
        self._handlers: dict[str, Handler] = {
            "range": kv.range,
            "put": kv.put,
            "delete_range": kv.delete_range,
            "txn": kv.txn,
            "compaction": self._compaction,
            "lease_grant": leases.grant,
            "lease_revoke": leases.revoke,
            "lease_checkpoint": leases.checkpoint,
            "alarm": self._alarm,
            "downgrade_info_set": lambda asked: members.set_downgrade(asked.enabled, asked.ver),
            **{kind: partial(apply_membership, members, kind) for kind in MEMBERSHIP_KINDS},
            **{kind: getattr(auth, kind) for kind in AUTH_KINDS},
        }
        self._auth = auth
        self._auth_checks = AuthChecks(auth, leases.keys_of)
        self._open_handlers = dict(self._handlers)
        self.applied_index = 0
        self.times = ApplyTimes()
        self.on_over_quota: list[Callable[[], None]] = []
        self.on_membership: list[Callable[[ConfChange], None]] = []
        self.on_compaction: list[Callable[[Compaction], None]] = []
        self._consistent_index, _ = backend.consistent_index()
        self._together_after = self._consistent_index
        self._mixed_to = 0
        self._note_alarms()

    def apply(self, entry: Entry, proposed: Proposed | None) -> object:
        index = entry.index
        if not entry.data:
            result = None
        elif proposed is not None:
            result = self._dispatch(proposed.kind, proposed.request, entry)
        else:
            kind, request = decode_request(entry.data, index)
            result = self._dispatch(kind, request, entry)
        if index > self._consistent_index:
            self._backend.end_entry(index, entry.term)
        self.applied_index = index
        return result

    def apply_run(
        self, entries: Sequence[Entry], proposals: Sequence[Proposed | None], start: int
    ) -> list[bytes]:
        """Plain puts, where nothing stands in their way."""
        if not self._puts_are_open or self._auth.enabled:
            return []
        index = entries[start].index
        if index <= self._together_after:
            return []
        puts: list[Any] = []
        if index > self._mixed_to and len(entries) - start > 1:
            run = entries[start : start + RUN_MAX]
            puts = [each and each.request for each in proposals[start : start + RUN_MAX]]
            if set(map(type, puts)) != _ONLY_PLAIN:
                # Not to be found out again behind each of the others.
                self._mixed_to = run[-1].index
                puts = []
        if not puts:
            puts = _leading_puts(entries, proposals, start)
            run = entries[start : start + len(puts)]
        if not run:
            return []
        last = run[-1]
        if self._quota.exceeded_by(PUT_OVERHEAD * len(run) + data_bytes(run)):
            # One by one, without gathering the rest of them each time.
            self._together_after = last.index
            return []
        results = self._kv.put_each(puts)
        self.times.count("put", True, len(puts))
        self._backend.end_entry(last.index, last.term)
        self.applied_index = last.index
        return results

    def _dispatch(self, kind: str, request: Any, entry: Entry) -> object:
        is_new = entry.index > self._consistent_index
        try:
            if kind == V2:
                answer = apply_v2_request(self._v2store, self._members, request, is_new)
                self.times.count(request.Method, True)
                return answer
            if not is_new:
                # The backend holds this entry's changes already, the tree does not.
                if kind in MEMBERSHIP_KINDS:
                    apply_membership(self._members, kind, request, to_backend=False)
                return None
            handler = self._open_handlers.get(kind)
            if handler is None:
                raise CorruptError(
                    f"log entry {entry.index} holds {kind}, which this build cannot apply"
                )
            if self._auth.enabled:
                self._auth_checks.check(kind, caller_of(entry.data or b""), request)
            result = handler(request)
        except TakesTurns as large:
            large.work = self._in_turns(large.work, kind, request, entry)
            raise
        except (EtcdError, V2Error) as refused:
            self.times.count(request.Method if kind == V2 else kind, False)
            return refused
        self.times.count(kind, True)
        if kind != "put":
            self._quota.look_again()  # tombstones, for one, are not asked for
        # Far below the quota a bound of the cost says enough.
        if kind in _TAKES_SPACE and self._quota.exceeded_by(
            COST_PER_BYTE_MAX * len(entry.data or b"")
        ):
            return self._weighed(kind, request, result)
        return result

    def _weighed(self, kind: str, request: Any, result: object) -> object:
        if not self._quota.exceeded_by(request_cost(kind, request)):
            return result
        for each in self.on_over_quota:
            each()
        return NoSpace()

    def _in_turns(self, work: Work[object], kind: str, request: Any, entry: Entry) -> Work[object]:
        """Carry out a request that takes several turns, and end its entry."""
        try:
            result = yield from self._kv.in_turns(work)
        except EtcdError as refused:
            self.times.count(kind, False)
            result = refused
        else:
            self.times.count(kind, True)
            self._quota.look_again()
            result = self._weighed(kind, request, result)
        self._backend.end_entry(entry.index, entry.term)
        self.applied_index = entry.index
        return result

    def _compaction(self, request: CompactionRequest) -> tuple[bytes, Compaction]:
        """The revisions are gone for readers at once, their records over the next turns."""
        result = self._kv.compaction(request)
        for each in self.on_compaction:
            each(result[1])
        return result

    # --- alarms --------------------------------------------------------------------------------

    def _alarm(self, request: Any) -> object:
        changed = self._alarms.apply(request)
        self._note_alarms()
        return changed

    def _note_alarms(self) -> None:
        """Raised alarms close handlers, on all members at the same entry."""
        self._open_handlers = dict(self._handlers)
        self._puts_are_open = not (self._alarms.no_space or self._alarms.corrupt)
        if self._alarms.no_space:
            for kind in _TAKES_SPACE:
                self._open_handlers[kind] = _without_space(kind, self._handlers[kind])
        if self._alarms.corrupt:
            for kind in _REFUSED_WHEN_CORRUPT:
                self._open_handlers[kind] = _refuse_corrupt

    # --- membership ----------------------------------------------------------------------------

    def check_conf_change(self, change: ConfChange) -> Exception | None:
        return self._members.check(change)

    def apply_conf_change(
        self, entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        self.applied_index = entry.index
        is_new = entry.index > self._consistent_index
        if refused is None:
            self._members.apply(change, to_backend=is_new)
            for each in self.on_membership:
                each(change)
            if is_new:
                self._backend.put(b"meta", b"confState", conf_state_json(conf_state).encode())
        if is_new:
            self._backend.end_entry(entry.index, entry.term)
        return refused

    # --- snapshots -----------------------------------------------------------------------------

    def begin_save(self) -> Saving:
        return V2Saving(self._v2store)

    def resume(self, snapshot: Snapshot) -> None:
        """Begin from an own snapshot; the backend has what it stands on. CorruptError."""
        recover(self._v2store, snapshot.data or b"")
        self._members.recover()
        self.applied_index = snapshot.index

    def restore(self, snapshot: Snapshot) -> None:
        raise CorruptError("a snapshot from another member cannot be installed by this build")


def _without_space(kind: str, handler: Handler) -> Handler:
    """While NOSPACE is raised only what takes no space goes through."""

    def refuse_or_apply(request: Any) -> object:
        if request_cost(kind, request) > 0:
            raise NoSpace
        return handler(request)

    return refuse_or_apply


def _refuse_corrupt(request: Any) -> object:
    raise Corrupt
