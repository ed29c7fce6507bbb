"""The whole member behind its two commands: ``etcdtw`` and ``twistd etcd``, seen by etcdctl."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from tests.process.member import etcdctl, free_ports, real_etcd
from tests.process.secured import Secured
from tests.process.test_command_line import (
    ETCDTW,
    READY,
    SECONDS_MAX,
    TWISTD,
    ProcessTestCase,
    end_daemon,
)

# A real etcd that was refused would have served or written long before.
REAL_ETCD_SECONDS = 2.0


def member_flags(client_port: int, peer_port: int, data_dir: str = "d") -> list[str]:
    client, peer = (f"http://127.0.0.1:{port}" for port in (client_port, peer_port))
    return [
        f"--data-dir={data_dir}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
    ]


class EntryPointTestCase(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.client_port, self.peer_port = free_ports(2)
        self.flags = member_flags(self.client_port, self.peer_port)

    def ctl(self, *words: str) -> str:
        """etcdctl's output; it must succeed."""
        ended = self.run_it([etcdctl(), f"--endpoints=127.0.0.1:{self.client_port}"], *words)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return ended.stdout

    def assert_closed(self, *ports: int) -> None:
        for port in ports:
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0, f"{port} is open")

    def end(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        process.send_signal(number)
        output, _ = process.communicate(timeout=SECONDS_MAX)
        self.assertEqual(process.returncode, -number, output)
        self.assertNotIn("Traceback", output)
        self.assert_closed(self.client_port, self.peer_port)


class ForegroundTests(EntryPointTestCase):
    def test_restart_keeps_data_and_ids(self) -> None:
        """Both commands serve etcdctl; SIGTERM and SIGINT end them cleanly, and the next start on
        the same directory has the same data, revision and ids."""
        said: list[str] = []
        twistd = [*TWISTD, "-n", "etcd"]
        for command, number in (
            (ETCDTW, signal.SIGTERM),
            (ETCDTW, signal.SIGINT),
            (twistd, signal.SIGTERM),
            (twistd, signal.SIGINT),
        ):
            process = self.start(command, *self.flags)
            self.read_until(process, READY)
            if not said:
                self.assertEqual(self.ctl("put", "a", "1"), "OK\n")
            said.append(self.ctl("member", "list", "-w=json") + self.ctl("get", "a", "-w=fields"))
            self.end(process, number)
        self.assertIn('"Value" : "1"', said[0])
        without_term = {
            "\n".join(line for line in each.splitlines() if "Term" not in line).partition("}")[2]
            for each in said
        }
        self.assertEqual(len(without_term), 1, said)

    def test_directory_in_use(self) -> None:
        """A second process on the same directory is refused with a sentence that names the file,
        whichever command it is; the first goes on."""
        first = self.start(ETCDTW, *self.flags)
        self.read_until(first, READY)
        client_port, peer_port = free_ports(2)
        others = member_flags(client_port, peer_port)
        reason = (
            f"{self.directory}/d/member/snap/db is locked: another process is using this "
            "data directory"
        )
        for command in (ETCDTW, [*TWISTD, "-n", "etcd"]):
            self.assertEqual(self.refused(command, *others), (1, reason))
        daemon = self.run_it([*TWISTD, "etcd"], *others)
        self.assertEqual(daemon.returncode, 1)
        log = Path(self.directory, "twistd.log")
        deadline = time.monotonic() + SECONDS_MAX
        while reason not in log.read_text(encoding="utf-8"):
            # The daemon writes its end while twistd is already back.
            self.assertLess(time.monotonic(), deadline, log.read_text(encoding="utf-8"))
            time.sleep(0.02)
        self.assertEqual(self.ctl("put", "a", "1"), "OK\n")

    def test_directory_in_use_seen_by_etcd(self) -> None:
        """Real etcd on the directory of a running member waits for bbolt's lock as it does beside
        another etcd: it serves nobody and changes nothing."""
        first = self.start(ETCDTW, *self.flags)
        self.read_until(first, READY)
        self.ctl("put", "a", "1")
        before = self.settled_log()
        client_port, peer_port = free_ports(2)
        second = self.start(real_etcd(), *member_flags(client_port, peer_port))
        self.read_until(second, "starting an etcd server")
        deadline = time.monotonic() + REAL_ETCD_SECONDS
        while time.monotonic() < deadline:
            self.assertIs(second.poll(), None)
            with socket.create_connection(("127.0.0.1", client_port)) as caller:
                caller.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                caller.settimeout(0.2)
                self.assertRaises(TimeoutError, caller.recv, 1)
        second.kill()
        self.assertEqual(self.log_times(), before)
        self.assertEqual(self.ctl("put", "a", "2"), "OK\n")

    def test_directory_in_use_by_etcd(self) -> None:
        """Ours on the directory of a running real etcd is refused as beside another of ours, and
        changes nothing; the first goes on, and so does ours once the first is gone."""
        first = self.start(real_etcd(), *self.flags)
        self.read_until(first, "ready to serve client requests")
        self.ctl("put", "a", "1")
        before = self.settled_log()
        snap = Path(self.directory, "d/member/snap")
        names = sorted(each.name for each in snap.iterdir())
        client_port, peer_port = free_ports(2)
        others = member_flags(client_port, peer_port)
        reason = (
            f"{self.directory}/d/member/snap/db is locked: another process is using this "
            "data directory"
        )
        self.assertEqual(self.refused(ETCDTW, *others), (1, reason))
        self.assertEqual(self.log_times(), before)
        self.assertEqual(sorted(each.name for each in snap.iterdir()), names)
        self.assertEqual(self.ctl("put", "a", "2"), "OK\n")
        first.terminate()
        first.wait()
        second = self.start(ETCDTW, *self.flags)
        self.read_until(second, READY)
        self.assertIn("2", self.ctl("get", "a"))

    def log_times(self) -> dict[str, int]:
        """When each file of the write-ahead log was changed last."""
        wal = Path(self.directory, "d/member/wal")
        return {each.name: each.stat().st_mtime_ns for each in wal.iterdir()}

    def settled_log(self) -> dict[str, int]:
        """``log_times`` once the member has noted its last commit index, and then rests."""
        found: dict[str, int] = {}
        deadline = time.monotonic() + SECONDS_MAX
        while (now := self.log_times()) != found and time.monotonic() < deadline:
            found = now
            time.sleep(0.4)
        return found


class DaemonTests(EntryPointTestCase):
    def test_proxies_without_a_port(self) -> None:
        """A daemon of a gateway or a gRPC proxy whose port is taken says so where it was started,
        and leaves no pid file."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for name in ("etcd-gateway", "etcd-grpc-proxy"):
                words = ("start", "--endpoints", "127.0.0.1:1", "--listen-addr", address)
                daemon = self.run_it([*TWISTD, name], *words)
                self.assertEqual(daemon.returncode, 1)
                said = f"listen tcp {address}: bind: address already in use"
                self.assertIn(said, daemon.stderr)
                self.assert_no_pid_file()

    def test_daemon(self) -> None:
        """The daemon serves, keeps a relative data directory where it was started, and is gone
        after SIGTERM; started again it has everything."""
        os.mkdir(os.path.join(self.directory, "run"))
        pid_file = Path(self.directory, "twistd.pid")
        self.addCleanup(end_daemon, pid_file)
        for number in range(2):
            ended = self.run_it([*TWISTD, "--rundir=run"], "etcd", *self.flags)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual(self.ctl("put", f"k{number}", "1"), "OK\n")
            self.assertEqual(
                self.ctl("get", "k", "--prefix", "--keys-only").split(),
                [f"k{each}" for each in range(number + 1)],
            )
            os.kill(int(pid_file.read_text(encoding="utf-8")), signal.SIGTERM)
            self.assert_no_pid_file()
            self.assert_closed(self.client_port, self.peer_port)
        self.assertTrue(Path(self.directory, "d/member/wal").is_dir())
        self.assertEqual(os.listdir(os.path.join(self.directory, "run")), [])

    def test_relative_certificates(self) -> None:
        """TS9: paths of certificates are relative to where the daemon was started, though it goes
        elsewhere; also when they are loaded again."""
        os.mkdir(os.path.join(self.directory, "run"))
        pki = Secured(Path(self.directory))
        pid_file = Path(self.directory, "twistd.pid")
        self.addCleanup(end_daemon, pid_file)
        client = f"https://127.0.0.1:{self.client_port}"
        secure = [
            "--cert-file=member.crt", "--key-file=member.key", "--trusted-ca-file=ca.crt",
            "--peer-cert-file=member.crt", "--peer-key-file=member.key",
            "--peer-trusted-ca-file=ca.crt",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        ]  # fmt: skip
        ended = self.run_it([*TWISTD, "--rundir=run"], "etcd", *self.flags, *secure)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        for _ in range(2):
            asked = self.run_it(pki.curl(), f"{client}/health")
            self.assertIn('"health":"true"', asked.stdout, asked.stderr)
            made = pki.issue("member", "peer", ["127.0.0.1"])
        shown = ssl.get_server_certificate(("127.0.0.1", self.client_port))
        self.assertEqual(shown.encode(), made.certificate_pem())
