"""A member that defragments its keyspace before it serves."""

from __future__ import annotations

from tests.process.cluster import until
from tests.process.test_flags import FlagTestCase

FLAG = "--experimental-bootstrap-defrag-threshold-megabytes"


class AtStartTests(FlagTestCase):
    def test_threshold(self) -> None:
        """A start gives room back to the disk, if that is at least as much as the flag says."""
        member = self.member()
        client = self.client(member)
        for number in range(4):
            client.call("KV.Put", key=b"%d" % number, value=b"x" * 1_000_000)
        until(lambda: client.call("Maintenance.Status").dbSize > 4_000_000, lambda: "on disk")
        client.call("KV.DeleteRange", key=b"0", range_end=b"9")
        revision = client.call("KV.Put", key=b"left", value=b"1").header.revision
        client.call("KV.Compact", revision=revision, physical=True)
        for megabytes, is_large, said in (
            (1000, True, "Skipping defragmentation"),
            (1, False, "finished defragmenting"),
        ):
            member.stop()
            member.add_flags(f"{FLAG}={megabytes}")
            member.start()
            self.assertEqual(client.call("Maintenance.Status").dbSize > 4_000_000, is_large)
            self.assertEqual(client.call("KV.Range", key=b"left").kvs[0].value, b"1")
            self.assertIn(said, member.output())
