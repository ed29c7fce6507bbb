"""One life of a member in a child process: it starts on what the last one left, says what it found,
works and tells each intention and each answer, until it dies."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.task import Clock

from etcdtw.app.assemble import Core, assemble_core
from etcdtw.app.parts import found_log, keyspace_settings, reopen_log
from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.static import static_plan
from etcdtw.errors import EtcdError
from etcdtw.pb import rpc_pb2
from etcdtw.replica.interfaces import NoPeers
from etcdtw.storage.backend.lmdb_backend import LmdbBackend
from etcdtw.storage.backend.lmdb_environment import create, open_environment, remove_leftovers
from etcdtw.storage.bolt.exporting import Exports
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.worker import InlineWorker
from etcdtw.turns import Allowance
from tests.app.simulated_member import SETTINGS, Call
from tests.crash.seam import Death, DyingFilesystem, DyingWriter
from tests.storage_lmdb.keyspaces import HeldWorker

KEYS = 12
LEASES = 3
SEGMENT_BYTES = 8_000
SNAPSHOT_COUNT = 15
TURNS = 400
KEYS_PER_TURN = 3
CREEP_SECONDS = 0.01
"""Deletions of more keys take turns, one key in each."""


class CreepingClock(Clock):
    """Time goes on while work is done, so that a turn ends at some point of it."""

    def seconds(self) -> float:
        self.rightNow += CREEP_SECONDS
        return self.rightNow


class Life:
    """``directory`` is the data directory; ``tell`` takes one line."""

    def __init__(self, directory: str, death: Death, tell: Any) -> None:
        self.dice = death.dice
        self.tell = tell
        self.clock = CreepingClock()
        self.clock.advance(1_700_000_000 + self.dice.randrange(1000))
        # The order of work on threads against the reactor's is chance's.
        self.workers = [HeldWorker(), HeldWorker(), HeldWorker()]
        self.number = 0
        self.core, self.data_dir = self._started(directory, death)

    def _started(self, directory: str, death: Death) -> tuple[Core, DataDir]:
        """As ``app/member.py`` starts a member."""
        settings: MemberSettings = replace(
            SETTINGS,
            snapshot_count=SNAPSHOT_COUNT,
            backend_batch_limit=self.dice.choice((5, 20)),
            unsafe_no_fsync=True,
        )
        fs = DyingFilesystem(death)
        data_dir = DataDir(fs, directory)
        founds = not data_dir.has_wal()
        data_dir.create()
        data_dir.lock()
        data_dir.remove_scratch()
        snap_files = SnapStore(fs, data_dir.snap_dir)
        if founds:
            plan = static_plan(settings.bootstrap())
            opened = found_log(fs, data_dir.wal_dir, plan, SEGMENT_BYTES)
        else:
            opened = reopen_log(fs, data_dir.wal_dir, snap_files, SEGMENT_BYTES)
        keyspace = keyspace_settings(settings, data_dir.backend_path)
        sync_worker, background, commit_worker = self.workers
        remove_leftovers(fs, keyspace.path)
        if not fs.exists(keyspace.path):
            create(fs, keyspace.path, keyspace.map_bytes, sync=False)
        backend = LmdbBackend(
            fs,
            keyspace,
            open_environment(keyspace.path, keyspace.map_bytes, sync=False),
            self.clock,
            commit_worker,
            lambda env, path: DyingWriter(env, path, death),
        )
        core = assemble_core(
            settings,
            opened,
            snap_files,
            backend,
            Exports(keyspace.path, data_dir.snap_dir, InlineWorker),
            NoPeers(),
            self.clock,
            sync_worker,
            background,
            self.dice,
            self.clock.seconds,
            allowance=Allowance(KEYS_PER_TURN, piece_keys=1),
        )
        core.replica.on_fatal.append(self._fatal)
        core.start()
        for _ in range(20):
            self.turn()
        return core, data_dir

    def _fatal(self, error: BaseException) -> None:
        raise AssertionError(f"the member ended: {error}") from error

    def turn(self) -> None:
        for worker in self.workers:
            for _ in range(self.dice.randrange(3)):
                worker.do()
                worker.report()
        self.clock.advance(0.0 if self.dice.randrange(3) else self.dice.choice((0.02, 0.1)))

    def ask(self, method: str, request: Any) -> Call:
        call = Call()
        found = self.core.router.find(f"/etcdserverpb.{method}")
        assert not isinstance(found, EtcdError), f"{method} is not served"
        assert found.unary_handler is not None, f"{method} is not unary"
        found.unary_handler(call, request.SerializeToString())  # type: ignore[arg-type]
        return call

    def settled(self, calls: list[Call]) -> None:
        for _ in range(200):
            if all(each.body is not None or each.error is not None for each in calls):
                return
            self.turn()
        raise AssertionError("requests that are never answered")

    def found(self) -> dict[str, Any]:
        """Everything a client can see."""
        keys = self.ask("KV/Range", rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
        leases = self.ask("Lease/LeaseLeases", rpc_pb2.LeaseLeasesRequest())
        self.settled([keys, leases])
        assert keys.body is not None and leases.body is not None, (keys.error, leases.error)
        answer = rpc_pb2.RangeResponse.FromString(keys.body)
        known = rpc_pb2.LeaseLeasesResponse.FromString(leases.body).leases
        return {
            "revision": answer.header.revision,
            "keys": {each.key.decode(): [each.value.decode(), each.lease] for each in answer.kvs},
            "leases": sorted(each.ID for each in known),
        }

    def intention(self, leases: set[int]) -> tuple[str, Any, list[Any]]:
        """A request, and how the parent's model knows it."""
        dice = self.dice
        key = f"k{dice.randrange(KEYS)}"
        kind = dice.choice(("put",) * 6 + ("delete", "delete", "compact", "grant", "revoke"))
        if kind == "put":
            self.number += 1
            value = f"{self.number}-" + "v" * dice.choice((0, 5, 300))
            lease = dice.choice([0, *leases])
            put = rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
            return "KV/Put", put, [kind, key, value, lease]
        if kind == "delete":
            end = ""
            if dice.randrange(2):
                key, end = "k", dice.choice((key, "l"))
            deletion = rpc_pb2.DeleteRangeRequest(key=key.encode(), range_end=end.encode())
            return "KV/DeleteRange", deletion, [kind, key, end]
        if kind == "compact":
            revision = max(1, self.core.store.revision - dice.randrange(5))
            return "KV/Compact", rpc_pb2.CompactionRequest(revision=revision), [kind]
        lease = 1 + dice.randrange(LEASES)
        if kind == "grant":
            leases.add(lease)
            return "Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=10**6, ID=lease), [kind, lease]
        leases.discard(lease)
        return "Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease), [kind, lease]

    def work(self) -> None:
        found = self.found()
        self.tell(["found", found])
        leases = set(found["leases"])
        for _ in range(TURNS):
            calls = []
            for _ in range(self.dice.choice((1, 1, 2, 5))):
                method, request, said = self.intention(leases)
                self.tell(["asks", said])
                calls.append(self.ask(method, request))
            self.settled(calls)
            for call in calls:
                self.tell(["answered", call.error is None])
            chance = self.dice.randrange(30)
            if chance == 0:
                self.core.backend.defragment(lambda: None, lambda error: None)
            elif chance == 1:
                list(self.data_dir.purge(1, 1, self.core.snapshots.newest))
            self.turn()


def live(directory: str, seed: str, at: int, fd: int) -> None:
    """Does not return."""

    def tell(what: Any) -> None:
        os.write(fd, json.dumps(what).encode() + b"\n")

    death = Death(at, Random(seed))
    try:
        Life(directory, death, tell).work()
    except BaseException:
        import traceback

        tell(["failed", traceback.format_exc()])
        sys.stdout.flush()
        os._exit(1)
    death.strike()
