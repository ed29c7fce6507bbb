"""A member whose disk is full: it acknowledges nothing that it cannot keep."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from unittest import SkipTest

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import NOSPACE, AlarmRequest
from tests.process.foreign import ForeignClient, start_unhealthy
from tests.process.member import Member, NotReady, server_under_test

# Room for one segment of the log, and not for a second one.
SMALL_MEGABYTES = 70
LARGE_MEGABYTES = 300
VALUE_BYTES = 1 << 20
SECONDS_MAX = 10.0


class SmallDisk:
    """A tmpfs of a few megabytes that only processes started with ``command`` see."""

    def __init__(self, directory: str) -> None:
        if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"):
            raise SkipTest("mounting a small disk takes root, unshare and nsenter")
        os.mkdir(directory)
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self.command = ["nsenter", f"--target={self._holder.pid}", "--mount", "--"]
        self.directory = directory
        mount = [*self.command, "mount", "-t", "tmpfs", "-o", f"size={SMALL_MEGABYTES}m"]
        if subprocess.run([*mount, "tmpfs", directory], check=False).returncode:
            self.close()
            raise SkipTest("a tmpfs cannot be mounted here")

    def resize(self, megabytes: int) -> None:
        subprocess.run(
            [*self.command, "mount", "-o", f"remount,size={megabytes}m", self.directory],
            check=True,
        )

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


class FullDiskTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.disk = SmallDisk(self.directory)
        self.addCleanup(self.disk.close)
        self.member = self.member_with(f"--data-dir={self.directory}/data")

    def member_with(self, *flags: str) -> Member:
        """A member that sees the small disk; of a flag that is given twice the last counts."""
        member = Member([*self.disk.command, *server_under_test()], *flags)
        self.addCleanup(member.close)
        return member

    def put_until_refused(self, client: ForeignClient) -> tuple[dict[bytes, int], grpc.StatusCode]:
        """What was acknowledged at which revision, and how the next one was refused."""
        acknowledged: dict[bytes, int] = {}
        with self.assertRaises(grpc.RpcError) as caught:
            for number in range(2 * SMALL_MEGABYTES):
                key = b"%d" % number
                answer = client.call("KV.Put", key=key, value=bytes(VALUE_BYTES))
                acknowledged[key] = answer.header.revision
        return acknowledged, caught.exception.code()

    def assert_kept(self, client: ForeignClient, acknowledged: dict[bytes, int]) -> None:
        found = client.call("KV.Range", key=b"0", range_end=b"z", keys_only=True)
        kept = {kv.key: kv.mod_revision for kv in found.kvs}
        self.assertEqual({key: kept.get(key) for key in acknowledged}, acknowledged)

    def test_no_room_for_the_keyspace(self) -> None:
        """When the keyspace does not fit any more, NOSPACE is raised: what takes space is refused,
        reads and deletes are served, over a restart too. With more room the alarm can be disarmed,
        and nothing acknowledged was lost."""
        self.member.start()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            acknowledged, code = self.put_until_refused(client)
            self.assertEqual(code, grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertGreater(len(acknowledged), 3)
            client.call("KV.DeleteRange", key=b"0")
            del acknowledged[b"0"]
            self.assert_kept(client, acknowledged)
            self.member.kill()
            start_unhealthy(self.member, client)
            self.assert_kept(client, acknowledged)
            with self.assertRaises(grpc.RpcError) as caught:
                client.call("KV.Put", key=b"more", value=b"")
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.disk.resize(LARGE_MEGABYTES)
            member_id = client.call("Maintenance.Status").header.member_id
            deadline = time.monotonic() + SECONDS_MAX
            while not self.writes(client, member_id) and time.monotonic() < deadline:
                time.sleep(0.2)
            self.member.stop()
            self.member.start()
            acknowledged[b"more"] = client.call("KV.Range", key=b"more").kvs[0].mod_revision
            self.assert_kept(client, acknowledged)

    def writes(self, client: ForeignClient, member_id: int) -> bool:
        """Disarm the alarm and put something; False when it was raised again meanwhile."""
        client.call(
            "Maintenance.Alarm",
            action=AlarmRequest.DEACTIVATE,
            memberID=member_id,
            alarm=NOSPACE,
        )
        try:
            client.call("KV.Put", key=b"more", value=bytes(VALUE_BYTES))
        except grpc.RpcError:
            return False
        return True

    def test_no_room_for_the_log(self) -> None:
        """When the log does not fit any more, the write in question is not acknowledged and the
        process ends with code 1, naming file and bytes; with more room nothing acknowledged is
        lost and writing goes on."""
        member = self.member_with(f"--wal-dir={self.directory}/wal")
        member.start()
        with contextlib.closing(ForeignClient(member.endpoint)) as client:
            acknowledged, code = self.put_until_refused(client)
        self.assertEqual(code, grpc.StatusCode.UNAVAILABLE)
        self.assertGreater(len(acknowledged), SMALL_MEGABYTES // 2)
        deadline = time.monotonic() + SECONDS_MAX
        while member.running and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(member.process.returncode, 1)
        last = member.output().splitlines()[-1]
        self.assertRegex(last, rf"{self.directory}/wal/\S+\.(wal|tmp)\b")
        self.assertRegex(last, r"no space left on device \(\w+ \d+ bytes")
        self.disk.resize(LARGE_MEGABYTES)
        member.start()
        with contextlib.closing(ForeignClient(member.endpoint)) as client:
            self.assert_kept(client, acknowledged)
            found = client.call("KV.Range", key=b"0", range_end=b"z", keys_only=True)
            self.assertEqual(found.header.revision, 1 + found.count)
            client.call("KV.Put", key=b"more", value=bytes(VALUE_BYTES))

    def test_full_at_the_first_start(self) -> None:
        """A disk without room for the first segment refuses the start in one sentence; with
        more room the same command works."""
        self.disk.resize(10)
        with self.assertRaises(NotReady):
            self.member.start(SECONDS_MAX)
        self.assertEqual(self.member.process.returncode, 1)
        self.assertRegex(
            self.member.output().splitlines()[-1],
            rf"^open {self.directory}/data/member/\S+: no space left on device",
        )
        self.disk.resize(LARGE_MEGABYTES)
        self.member.start()
