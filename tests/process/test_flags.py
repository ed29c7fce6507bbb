"""Flags whose effect can only be seen from outside, each on a running member."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import AlarmRequest, RequestOp
from tests.process.foreign import ForeignClient, start_unhealthy
from tests.process.member import Member, server_under_test
from tests.process.raw_http2 import ACK, GOAWAY, PING, SETTINGS, Frame, RawConnection, frame
from tests.process.test_command_line import ETCDTW, READY
from tests.process.test_entry_points import EntryPointTestCase

NO_SPACE = "etcdserver: mvcc: database space exceeded"
SETTING_MAX_CONCURRENT_STREAMS = 3
SOON_SECONDS = 10.0


class FlagTestCase(SynchronousTestCase):
    def member(self, *flags: str) -> Member:
        """A running member."""
        member = Member(server_under_test(), *flags)
        self.addCleanup(member.close)
        member.start()
        return member

    def client(self, member: Member) -> ForeignClient:
        client = ForeignClient(member.endpoint)
        self.addCleanup(client.close)
        return client

    def refusal(self, call: Callable[[], object]) -> tuple[str, str]:
        """Code and text of a call that must fail."""
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        return caught.exception.code().name, caught.exception.details()


class LimitTests(FlagTestCase):
    def test_sizes(self) -> None:
        """``--max-txn-ops``, ``--max-request-bytes`` and ``--max-concurrent-streams`` bound what
        one client may ask for."""
        member = self.member(
            "--max-txn-ops=3", "--max-request-bytes=1000", "--max-concurrent-streams=7"
        )
        client = self.client(member)
        operations = [RequestOp(request_put={"key": b"%d" % n}) for n in range(4)]
        client.call("KV.Txn", success=operations[:3])
        self.assertEqual(
            self.refusal(lambda: client.call("KV.Txn", success=operations)),
            ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request"),
        )
        client.call("KV.Put", key=b"a", value=b"x" * 900)
        self.assertEqual(
            self.refusal(lambda: client.call("KV.Put", key=b"a", value=b"x" * 1000)),
            ("INVALID_ARGUMENT", "etcdserver: request is too large"),
        )
        with contextlib.closing(RawConnection(member.client_port)) as raw:
            settings = first(raw, lambda found: found.kind == SETTINGS and not found.flags & ACK)
        said = dict(struct.iter_unpack("!HI", settings.payload))
        self.assertEqual(said[SETTING_MAX_CONCURRENT_STREAMS], 7)

    def test_quota(self) -> None:
        """Over ``--quota-backend-bytes`` the NOSPACE alarm stops what takes space, reads and
        deletes go on; the alarm survives a restart without the log growing, and can be
        disarmed."""
        member = self.member("--quota-backend-bytes=1000000")
        client = self.client(member)

        def put() -> object:
            return client.call("KV.Put", key=b"a", value=b"x" * 300_000)

        with self.assertRaises(grpc.RpcError) as caught:
            for _ in range(10):
                put()
        self.assertEqual(caught.exception.details(), NO_SPACE)
        no_space = ("RESOURCE_EXHAUSTED", NO_SPACE)
        for _ in range(2):
            alarms = client.call("Maintenance.Alarm", action=AlarmRequest.GET).alarms
            self.assertEqual([each.alarm for each in alarms], [1])
            self.assertEqual(self.refusal(put), no_space)
            self.assertEqual(self.refusal(lambda: client.call("Lease.LeaseGrant", TTL=9)), no_space)
            client.call("KV.Range", key=b"a")
            client.call("KV.DeleteRange", key=b"a")
            self.assertFalse(member.healthy())
            index = client.call("Maintenance.Status").raftIndex
            member.stop()
            start_unhealthy(member, client)
            self.assertLess(client.call("Maintenance.Status").raftIndex, index + 6)
        member_id = client.call("Maintenance.Status").header.member_id
        client.call(
            "Maintenance.Alarm", action=AlarmRequest.DEACTIVATE, memberID=member_id, alarm=1
        )
        self.assertEqual(len(client.call("Maintenance.Alarm").alarms), 0)
        self.assertTrue(member.healthy())


def first(raw: RawConnection, wanted: Callable[[Frame], bool]) -> Frame:
    """The first frame of this kind, which must come soon."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        found = raw.next_frame(deadline)
        assert found is not None, "the server hung up"
        if wanted(found):
            return found


class KeepaliveTests(FlagTestCase):
    def test_silent_client(self) -> None:
        """``--grpc-keepalive-interval`` and ``-timeout``: an idle client is pinged, and dropped
        when it does not answer; one that answers stays."""
        member = self.member("--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s")
        with (
            contextlib.closing(RawConnection(member.client_port)) as silent,
            contextlib.closing(RawConnection(member.client_port)) as alive,
        ):
            for raw in (silent, alive):
                ping = first(raw, lambda found: found.kind == PING and not found.flags & ACK)
            alive.send(frame(PING, ACK, 0, ping.payload))
            self.assertIn(silent.outcome(0, SOON_SECONDS), ("closed", "GOAWAY NO_ERROR"))
            self.assertEqual(alive.ping(), "pong")

    def test_too_many_pings(self) -> None:
        """``--grpc-keepalive-min-time``: who pings more often is sent away, who keeps to it is
        not."""
        member = self.member("--grpc-keepalive-min-time=100ms")
        with contextlib.closing(RawConnection(member.client_port)) as raw:
            raw.request(1, "/etcdserverpb.Watch/Watch")
            for _ in range(6):
                time.sleep(0.12)
                self.assertEqual(raw.ping(), "pong")
            raw.send(frame(PING, 0, 0, bytes(8)) * 6)
            goaway = first(raw, lambda found: found.kind == GOAWAY)
            self.assertIn(b"too_many_pings", goaway.payload)


class TimingTests(FlagTestCase):
    def test_timeouts(self) -> None:
        """``--heartbeat-interval`` and ``--election-timeout`` are taken: the shortest lease is
        one and a half elections, rounded up."""
        for flags, ttl in (
            (["--heartbeat-interval=10", "--election-timeout=50"], 1),
            ([], 2),
            (["--heartbeat-interval=500", "--election-timeout=5000"], 8),
        ):
            with contextlib.closing(Member(server_under_test(), *flags)) as member:
                member.start()
                with contextlib.closing(ForeignClient(member.endpoint)) as client:
                    self.assertEqual(client.call("Lease.LeaseGrant", TTL=1).TTL, ttl, flags)

    def test_periodic_compaction(self) -> None:
        """``--auto-compaction-retention`` in periodic mode: history older than that goes away by
        itself, the latest values stay."""
        member = self.member("--auto-compaction-retention=300ms")
        client = self.client(member)
        for number in range(5):
            client.call("KV.Put", key=b"a", value=b"%d" % number)
        deadline = time.monotonic() + SOON_SECONDS
        while True:
            try:
                client.call("KV.Range", key=b"a", revision=3)
            except grpc.RpcError as error:
                self.assertIn("compacted", error.details())
                break
            self.assertLess(time.monotonic(), deadline, "nothing was compacted")
            time.sleep(0.05)
        self.assertEqual(client.call("KV.Range", key=b"a").kvs[0].value, b"4")


class StorageFlagTests(EntryPointTestCase):
    def test_wal_dir(self) -> None:
        """``--wal-dir`` holds the log, relative to where the member was started, and a restart
        finds it there."""
        for number in range(2):
            process = self.start(ETCDTW, *self.flags, "--wal-dir=elsewhere/wal")
            self.read_until(process, READY)
            self.ctl("put", f"k{number}", "1")
            self.end(process, signal.SIGTERM)
        self.assertEqual(len(list(Path(self.directory, "elsewhere/wal").glob("*.wal"))), 1)
        self.assertEqual(os.listdir(Path(self.directory, "d/member")), ["snap"])
        process = self.start(ETCDTW, *self.flags, "--wal-dir=elsewhere/wal")
        self.read_until(process, READY)
        self.assertEqual(self.ctl("get", "k", "--prefix", "--keys-only").split(), ["k0", "k1"])

    def test_wal_dir_forgotten(self) -> None:
        """Without the flag that says where its log lies a member is refused, and begins no second
        log, which the next start would take for its own."""
        process = self.start(ETCDTW, *self.flags, "--wal-dir=elsewhere/wal")
        self.read_until(process, READY)
        process.kill()
        process.wait()
        code, sentence = self.refused(ETCDTW, *self.flags)
        self.assertEqual(code, 1)
        self.assertRegex(sentence, "no log is in .*/member/wal, but .*/kv.lmdb has a keyspace")
        self.assertFalse(Path(self.directory, "d/member/wal").exists())

    def test_unsafe_no_fsync(self) -> None:
        """With ``--unsafe-no-fsync`` nothing is ever synced, without it every put is."""
        for flags, at_least, at_most in ((["--unsafe-no-fsync"], 0, 0), ([], 3, 1000)):
            self.assertTrue(at_least <= self._syncs(*flags) <= at_most, flags)

    def _syncs(self, *flags: str) -> int:
        """Syncs of a fresh member and three puts, counted by strace."""
        tracer = shutil.which("strace")
        if tracer is None:
            raise SkipTest("strace is not installed")
        counting = [tracer, "-f", "-qq", "-o", "calls", "-e", "trace=fsync,fdatasync"]
        if subprocess.run([*counting, "true"], cwd=self.directory).returncode:
            raise SkipTest("strace may not trace processes here")
        shutil.rmtree(os.path.join(self.directory, "d"), ignore_errors=True)
        process = self.start([*counting, *ETCDTW], *self.flags, *flags)
        self.read_until(process, READY)
        for _ in range(3):
            self.ctl("put", "a", "1")
        calls = Path(self.directory, "calls").read_text()
        os.kill(int(calls.split()[0]) if calls else child_of(process.pid), signal.SIGTERM)
        process.wait()
        return calls.count("sync(")


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


class SourceTests(EntryPointTestCase):
    def test_log_flags(self) -> None:
        """``--log-level`` hides what is below it, ``--log-outputs`` writes to every target."""
        process = self.start(
            ETCDTW, *self.flags, "--log-outputs=stdout,log.json", "--log-level=info"
        )
        self.read_until(process, READY)
        self.end(process, signal.SIGTERM)
        lines = Path(self.directory, "log.json").read_text(encoding="utf-8").splitlines()
        self.assertIn(READY, [json.loads(line)["msg"] for line in lines])
        quiet = ["--log-outputs=stderr,e.json", "--log-level=error"]
        process = self.start(ETCDTW, *self.flags, *quiet)
        self.ctl("get", "a", "--dial-timeout=10s", "--command-timeout=10s")
        self.end(process, signal.SIGTERM)
        self.assertEqual(Path(self.directory, "e.json").read_text(encoding="utf-8"), "")

    def test_course_of_a_member(self) -> None:
        """The log tells what a start goes by, who leads, what was compacted, and the end."""
        process = self.start(
            ETCDTW, *self.flags, "--log-outputs=stderr,log.json", "--auto-compaction-retention=2"
        )
        self.read_until(process, READY)
        self.ctl("put", "a", "1")
        self.ctl("compact", "2", "--physical")
        self.ctl("defrag")
        self.end(process, signal.SIGTERM)
        text = Path(self.directory, "log.json").read_text(encoding="utf-8")
        told = {entry["msg"]: entry for entry in map(json.loads, text.splitlines())}
        start = told["starting an etcd server"]
        self.assertEqual(start["auto-compaction-retention"], "7200s")
        self.assertEqual(start["quota-size-bytes"], 2 << 30)
        self.assertEqual(start["listen-client-urls"], [f"http://127.0.0.1:{self.client_port}"])
        self.assertTrue(any("elected leader" in each for each in told))
        self.assertEqual(told["finished scheduled compaction"]["compact-revision"], 2)
        for each in ("added member", "starting defragment", "finished defragment"):
            self.assertIn(each, told)
        self.assertEqual(list(told)[-2:], ["closing etcd server", "closed etcd server"])

    def test_environment_and_file(self) -> None:
        """ST5: the same settings work as variables and as a YAML file."""
        names = [flag[2:].partition("=") for flag in self.flags]
        variables = {f"ETCD_{name.replace('-', '_').upper()}": value for name, _, value in names}
        process = self.start(ETCDTW, ETCD_MAX_TXN_OPS="3", **variables)
        self.read_until(process, READY)
        self.ctl("put", "a", "1")
        self.end(process, signal.SIGTERM)
        text = "".join(f"{name}: {value}\n" for name, _, value in names)
        Path(self.directory, "c.yaml").write_text(text + "max-txn-ops: 3\n", encoding="utf-8")
        process = self.start(ETCDTW, "--config-file=c.yaml")
        self.read_until(process, READY)
        self.assertEqual(self.ctl("get", "a"), "a\n1\n")
        self.end(process, signal.SIGTERM)
