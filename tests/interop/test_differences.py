"""Rows of docs/differences.md that only real etcd can confirm: what it does, and what we do."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import TxnRequest, WatchCreateRequest, WatchRequest
from tests.interop.pair import Pair, Side

REVISIONS = 1500
NESTING_TOO_DEEP = (41, 127)
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "differences.md"


class DifferenceTests(SynchronousTestCase):
    def pair(self, *flags: str) -> Pair:
        pair = Pair(*flags)
        self.addCleanup(pair.close)
        pair.start()
        return pair

    def watch(self, side: Side, **fields: Any) -> list[Any]:
        """The first two answers to a new watch."""
        assert side.client is not None
        stream = side.client.open("Watch.Watch")
        try:
            stream.send(WatchRequest(create_request=WatchCreateRequest(**fields)))
            return [stream.receive(), stream.receive()]
        finally:
            stream.close()

    def test_catching_up(self) -> None:
        """The header of events from the past has the revision of the newest event that the answer
        may hold; etcd's has the store's, which is further than the events go."""

        def look(side: Side) -> tuple[int, int]:
            assert side.client is not None
            for _ in range(REVISIONS):
                side.client.call("KV.Put", key=b"a")
            answer = self.watch(side, key=b"a", start_revision=2)[1]
            return answer.header.revision, answer.events[-1].kv.mod_revision

        real, ours = self.pair().both(look)
        self.assertEqual(real, (1 + REVISIONS, 1001))
        self.assertEqual(ours, (1001, 1001))

    def test_deletion_at_the_compacted_revision(self) -> None:
        """A watch that begins at the compacted revision does not see a deletion made by exactly
        that revision: etcd and we alike."""

        def look(side: Side) -> list[int]:
            assert side.client is not None
            side.client.call("KV.Put", key=b"a")
            revision = side.client.call("KV.DeleteRange", key=b"a").header.revision
            side.client.call("KV.Compact", revision=revision, physical=True)
            side.client.call("KV.Put", key=b"a")
            answer = self.watch(side, key=b"a", start_revision=revision)[1]
            return [each.kv.mod_revision for each in answer.events]

        real, ours = self.pair().both(look)
        self.assertEqual((real, ours), ([4], [4]))

    def test_deep_nesting(self) -> None:
        """A transaction nested deeper than 40 levels is refused; etcd carries it out."""
        for depth in NESTING_TOO_DEEP:
            request = inner = TxnRequest()
            for _ in range(depth):
                inner = inner.success.add().request_txn
            inner.success.add().request_put.key = b"deep"
            body = request.SerializeToString()

            def send(side: Side, body: bytes = body) -> str:
                assert side.client is not None
                try:
                    side.client.send_raw("/etcdserverpb.KV/Txn", body, 10.0)
                except grpc.RpcError as error:
                    return str(error.details())
                return "done"

            real, ours = self.pair().both(send)
            self.assertEqual(real, "done")
            self.assertEqual(ours, "etcdserver: too many operations in txn request")

    def test_lease_with_a_negative_id(self) -> None:
        """It is there after a restart; etcd looks for leases from 0 on and refuses its keys."""

        def look(side: Side) -> list[str]:
            assert side.client is not None
            side.client.call("Lease.LeaseGrant", ID=-3, TTL=1000)
            outcomes = []
            for _ in range(2):
                try:
                    side.client.call("KV.Put", key=b"a", lease=-3)
                    outcomes.append("done")
                except grpc.RpcError as error:
                    outcomes.append(str(error.details()))
                side.client.close()
                side.member.stop()
                side.start()
            return outcomes

        real, ours = self.pair().both(look)
        self.assertEqual(real, ["done", "etcdserver: requested lease not found"])
        self.assertEqual(ours, ["done", "done"])

    def test_token_without_auth(self) -> None:
        """While auth is off a token is ignored; etcd refuses one that it does not know."""

        def send(side: Side) -> str:
            assert side.client is not None
            try:
                side.client.call("KV.Put", key=b"a", metadata=[("token", "unknown")])
            except grpc.RpcError as error:
                return str(error.details())
            return "done"

        real, ours = self.pair().both(send)
        self.assertEqual((real, ours), ("etcdserver: invalid auth token", "done"))

    def test_update_of_a_directory(self) -> None:
        """An update of a directory of the v2 tree gives it a TTL; etcd 3.5 answers 500, and neither
        its tree nor the tree's index changes."""

        def ask(side: Side, method: str, query: str = "") -> tuple[int, int, Any]:
            """Status, index of the tree and what is told of the directory."""
            with contextlib.closing(side.member.http_connection()) as connection:
                connection.request(method, f"/v2/keys/d{query}")
                answer = connection.getresponse()
                index = int(answer.getheader("X-Etcd-Index") or 0)
                return answer.status, index, json.loads(answer.read()).get("node")

        def look(side: Side) -> tuple[int, int, bool]:
            _, before, _ = ask(side, "PUT", "?dir=true")
            status, _, _ = ask(side, "PUT", "?dir=true&prevExist=true&ttl=1000")
            _, after, node = ask(side, "GET")
            return status, after - before, "ttl" in node

        real, ours = self.pair("--enable-v2").both(look)
        self.assertEqual((real, ours), ((500, 0, False), (200, 1, True)))


class DocumentTests(SynchronousTestCase):
    def test_every_row_names_its_test(self) -> None:
        """The last cell of each row of the table names tests that exist."""
        rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if "|" in line]
        root = DOCUMENT.parents[1]
        for row in rows[2:]:
            named = row.rstrip("| ").rpartition("|")[2].strip().strip("`")
            module, _, test = named.partition("::")
            text = (root / module).read_text(encoding="utf-8")
            defined = f"\n  {test}:\n" if module.endswith(".yaml") else f"def {test}("
            self.assertIn(defined, text, row)
