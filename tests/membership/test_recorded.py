"""A real member's log, applied here, leads to the snapshots that the real member saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.membership import (
    Members,
    apply_v2_request,
    bootstrap_entries,
    fill_request,
    parse_member,
    publish_request,
    version_request,
)
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.raft.codec import decode_conf_change, decode_entry, encode_entry
from etcdtw.raft.messages import EntryType
from etcdtw.v2store import V2Error, V2Store, recover, save

VECTORS = Path(__file__).parent.parent / "v2store" / "vectors"
SECOND = 10**9


def recorded(release: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"single-{release}.json").read_text())
    return loaded


class RecordedLogTests(SynchronousTestCase):
    """One-member clusters of etcd 3.4 and 3.5."""

    def replay(self, release: str) -> None:
        vector = recorded(release)
        now = 0
        store = V2Store(lambda: now)
        members = Members(store)
        entries = [decode_entry(bytes.fromhex(each["entry_hex"])) for each in vector["entries"]]
        for limit, expected in sorted((int(k), v) for k, v in vector["snapshots"].items()):
            while entries and entries[0].index <= limit:
                entry = entries.pop(0)
                data = entry.data or b""
                if entry.type == EntryType.CONF_CHANGE:
                    change = decode_conf_change(data)
                    self.assertIsNone(members.check(change))
                    members.apply(change)
                    continue
                request = Request.FromString(data)
                if request.Path.startswith("/1/") and request.Method != "QGET":
                    # The HTTP side of a real member looks up whether v2 auth is on, and misses.
                    self.assertRaises(V2Error, store.get, "/2/enabled")
                now = request.Expiration - 100_000 * SECOND if request.Expiration else 0
                apply_v2_request(store, members, request)
            self.assertEqual(save(store).decode(), expected)
        self.assertEqual(members.version, f"{release}.0")
        (member,) = members.all()
        self.assertEqual(member.name, "solo")
        self.assertTrue(member.client_urls)

    def test_35(self) -> None:
        """The log of a 3.5 member gives its snapshots, byte for byte."""
        self.replay("3.5")

    def test_34(self) -> None:
        """The log of a 3.4 member gives its snapshots, byte for byte."""
        self.replay("3.4")

    def test_bootstrap_entries(self) -> None:
        """Our first entry of a new cluster is the one that the real member wrote."""
        for release in ("3.4", "3.5"):
            first = recorded(release)["entries"][0]["entry_hex"]
            context = decode_conf_change(decode_entry(bytes.fromhex(first)).data or b"").context
            (entry,) = bootstrap_entries([parse_member(context or b"")])
            self.assertEqual(encode_entry(entry).hex(), first)

    def test_recover(self) -> None:
        """The membership comes back from a saved tree."""
        store = V2Store(lambda: 0)
        recover(store, recorded("3.5")["snapshots"]["63"].encode())
        members = Members(store)
        members.recover()
        self.assertEqual(members.version, "3.5.0")
        self.assertEqual([each.name for each in members.all()], ["solo"])

    def test_request_bytes(self) -> None:
        """Publishing and the version are proposed with the bytes of a real member."""
        for release in ("3.4", "3.5"):
            for each in recorded(release)["entries"][1:4]:
                data = decode_entry(bytes.fromhex(each["entry_hex"])).data or b""
                theirs = Request.FromString(data)
                if theirs.Path == "/0/version":
                    ours = version_request(theirs.ID, theirs.Val)
                elif theirs.Path.endswith("/attributes"):
                    path = theirs.Path.removesuffix("/attributes")
                    ours = publish_request(theirs.ID, path, theirs.Val)
                else:
                    continue
                self.assertEqual(ours.SerializeToString(), data)

    def test_filled_request(self) -> None:
        """A request with every mandatory field has the bytes of a real member's SYNC."""
        theirs = recorded("3.5")["entries"][-1]["entry_hex"]
        data = decode_entry(bytes.fromhex(theirs)).data or b""
        sync = Request.FromString(data)
        ours = fill_request(Request(ID=sync.ID, Method="SYNC", Time=sync.Time))
        self.assertEqual(ours.SerializeToString(), data)
