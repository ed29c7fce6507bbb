"""``etcdtw`` and ``twistd etcd`` as processes: texts, exit codes, signals, daemons."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.app.bootstrap_vectors import FILES, cases
from tests.process.cluster import until

PROJECT = Path(__file__).resolve().parents[2]
STAND_IN = str(Path(__file__).with_name("stand_in.py"))
ETCDTW = [sys.executable, "-c", "from etcdtw.app.console import main; main()"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
SECONDS_MAX = 20.0
READY = "ready to serve client requests"

# One or two of each way to be refused; the rest is replayed inside the test process.
REPLAYED = (
    "unknown flag",
    "bad listen url no scheme",
    "enable-pprof bad bool",
    "extra argument",
    "listen without advertise",
    "bad log level",
    "bad env var",
    "config file bad yaml",
    "config file bad url",
    "data dir is a file",
    "duplicate url in initial cluster",
    "bad auth-token",
)


class ProcessTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("ETCD_") and key not in ("MAKELEVEL", "NOTIFY_SOCKET")
        }
        self.environment["PYTHONPATH"] = str(PROJECT)

    def run_it(
        self, command: list[str], *words: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *words],
            cwd=self.directory,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
        )

    def refused(self, command: list[str], *words: str, **variables: str) -> tuple[int, str]:
        """Exit code and last line on stderr."""
        ended = self.run_it(command, *words, **variables)
        return ended.returncode, (ended.stderr.splitlines() or [""])[-1]

    def assert_no_pid_file(self) -> None:
        """It goes soon: a daemon that ends removes it while twistd, told of that, is back."""
        path = Path(self.directory, "twistd.pid")
        deadline = time.monotonic() + SECONDS_MAX
        while path.exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def start(self, command: list[str], *words: str, **variables: str) -> subprocess.Popen[str]:
        """A process that is ended after the test at the latest."""
        process = subprocess.Popen(
            [*command, *words],
            cwd=self.directory,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def end() -> None:
            if process.poll() is None:
                process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def read_until(self, process: subprocess.Popen[str], text: str) -> list[str]:
        """Lines up to the one with the text."""
        assert process.stdout is not None, "output is a pipe"
        lines = []
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return lines
        raise AssertionError(f"{text!r} is not in {lines}")


def client_flags(port: int) -> list[str]:
    url = f"http://127.0.0.1:{port}"
    return ["--listen-client-urls", url, "--advertise-client-urls", url]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def end_daemon(pid_file: Path) -> None:
    """Kill a daemon that has not removed its pid file."""
    if pid_file.exists():
        os.kill(int(pid_file.read_text(encoding="utf-8")), signal.SIGKILL)


class RefusalTests(ProcessTestCase):
    def test_recorded(self) -> None:
        """Real etcd's text is the last line, and its exit code ours; no directory is made."""
        for name, text in FILES.items():
            Path(self.directory, name).write_text(text, encoding="utf-8")
        chosen = [case for case in cases(self.directory) if case.label in REPLAYED]
        self.assertEqual({case.label for case in chosen}, set(REPLAYED))
        for case in chosen:
            self.assertEqual(
                self.refused(ETCDTW, *case.words, **case.variables),
                (case.exit_code, case.text),
                case.label,
            )
        self.assertEqual(sorted(os.listdir(self.directory)), sorted(FILES))

    def test_guide(self) -> None:
        """The clustering guide's error cases end with its sentences, in a log line with etcd's."""
        code, last = self.refused(
            ETCDTW,
            "--name",
            "infra1",
            "--initial-advertise-peer-urls",
            "http://10.0.1.11:2380",
            "--listen-peer-urls",
            "https://10.0.1.11:2380",
            "--initial-cluster",
            "infra0=http://10.0.1.10:2380",
        )
        self.assertEqual((code, last), (1, "etcd: infra1 not listed in the initial cluster config"))

    def test_port_in_use(self) -> None:
        """A port that is taken is named in Go's words, exit code 1."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            code, last = self.refused([sys.executable, STAND_IN, "etcdtw"], *client_flags(port))
        self.assertEqual(code, 1)
        self.assertEqual(last, f"listen tcp 127.0.0.1:{port}: bind: address already in use")

    def test_texts(self) -> None:
        """``--version`` and ``--help`` go to stdout, exit code 0."""
        version = self.run_it(ETCDTW, "--version")
        self.assertEqual((version.returncode, len(version.stdout.splitlines())), (0, 4))
        usage = self.run_it(ETCDTW, "-h")
        self.assertEqual(usage.returncode, 0)
        self.assertIn("--initial-cluster-token 'etcd-cluster'", usage.stdout)


class ForegroundTests(ProcessTestCase):
    command = [sys.executable, STAND_IN, "etcdtw"]

    def test_signals(self) -> None:
        """SIGTERM and SIGINT stop the services and then end the process as signals do; those that
        Go takes no notice of are not taken notice of here."""
        for number in (signal.SIGTERM, signal.SIGINT):
            process = self.start(self.command, *client_flags(free_port()))
            self.read_until(process, READY)
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGUSR2)
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.send_signal(number)
            rest, _ = process.communicate(timeout=SECONDS_MAX)
            self.assertIn("stand-in stopped", rest)
            self.assertEqual(process.returncode, -number)

    def test_log(self) -> None:
        """The log is lines of JSON on stderr, with the data directory's full path."""
        process = self.start(self.command, "--data-dir=d", *client_flags(free_port()))
        entries = [json.loads(line) for line in self.read_until(process, READY)]
        self.assertEqual(entries[-1]["data-dir"], os.path.join(self.directory, "d"))

    def test_death(self) -> None:
        """A member that fails while running stops its services and ends with code 1."""
        process = self.start(self.command, "--name=dies", *client_flags(free_port()))
        output, _ = process.communicate(timeout=SECONDS_MAX)
        self.assertEqual(process.returncode, 1)
        self.assertIn("open /wal: no space left on device", output)
        self.assertIn("stand-in stopped", output)

    def test_greeting_and_notification(self) -> None:
        """A newcomer is greeted, a supervisor is told."""
        name = f"etcdtw-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind("\0" + name)
            supervisor.settimeout(SECONDS_MAX)
            url = f"http://127.0.0.1:{free_port()}"
            process = self.start(
                self.command,
                MAKELEVEL="1",
                NOTIFY_SOCKET=f"@{name}",
                ETCD_LISTEN_CLIENT_URLS=url,
                ETCD_ADVERTISE_CLIENT_URLS=url,
            )
            lines = self.read_until(process, "--help")
            self.assertIn(f"  etcdctl --endpoints {url} put foo bar\n", lines)
            self.assertEqual(supervisor.recv(100), b"READY=1")


class TwistdTests(ProcessTestCase):
    command = [sys.executable, STAND_IN, "twistd"]

    def test_listed(self) -> None:
        """OV7: ``twistd --help`` lists the command with one line."""
        output = self.run_it(TWISTD, "--help").stdout
        self.assertRegex(output, r"(?m)^ +etcd +\S.*$")

    def test_refused(self) -> None:
        """A refused start says its sentence and has etcd's exit code, in both modes."""
        for mode in (["-n"], []):
            self.assertEqual(
                self.refused(TWISTD, *mode, "etcd", "-enable-v2=true", "--nope=true"),
                (2, "flag provided but not defined: -nope"),
            )
            self.assertEqual(
                self.refused(TWISTD, *mode, "etcd", "-name=m1", "--initial-cluster=m0=http://a:1"),
                (1, "etcd: m1 not listed in the initial cluster config"),
            )
        self.assertEqual(os.listdir(self.directory), [])

    def test_port_in_use(self) -> None:
        """A start that fails after the checks ends with code 1 in both modes and says why."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            for mode in (["-n"], []):
                ended = self.run_it(self.command, *mode, "etcd", *client_flags(port))
                self.assertEqual(ended.returncode, 1)
                self.assertIn(
                    f"listen tcp 127.0.0.1:{port}: bind: address already in use", ended.stderr
                )
                self.assert_no_pid_file()

    def test_port_of_others_in_use(self) -> None:
        """The discovery service and the name server say so too, without a traceback."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            reason = f"listen tcp {address}: bind: address already in use"
            dns = ("etcd-dns", "--domain=example.com", "--member=a=10.0.1.10")
            for words in (("etcd-discovery",), dns):
                ended = self.run_it(TWISTD, "-n", *words, f"--listen={address}")
                self.assertEqual(
                    (ended.returncode, ended.stderr.splitlines()[-1]), (1, reason), ended.stderr
                )
                self.assertNotIn("Traceback", ended.stdout + ended.stderr)
                self.assert_no_pid_file()
                ended = self.run_it(TWISTD, *words, f"--listen={address}")
                self.assertEqual(ended.returncode, 1)
                self.assertIn(reason, ended.stderr)
                self.assert_no_pid_file()

    def test_foreground(self) -> None:
        """With ``-n`` the member serves, logs where it is told, and dies with code 1."""
        ended = self.run_it(
            self.command,
            "-n",
            "etcd",
            "--name=dies",
            "--log-outputs=json.log",
            *client_flags(free_port()),
        )
        self.assertEqual(ended.returncode, 1)
        log = Path(self.directory, "json.log").read_text(encoding="utf-8")
        self.assertIn(f'"msg":"{READY}"', log)
        self.assert_no_pid_file()

    def test_daemon(self) -> None:
        """A daemon keeps relative paths, says where its log is, and stops by SIGTERM."""
        os.mkdir(os.path.join(self.directory, "run"))
        ended = self.run_it(
            self.command, "--rundir=run", "etcd", "--data-dir=d", *client_flags(free_port())
        )
        self.assertEqual((ended.returncode, ended.stdout), (0, ""))
        log = Path(self.directory, "twistd.log")
        self.assertIn(f"log: {log}", ended.stderr)
        pid_file = Path(self.directory, "twistd.pid")
        pid = int(pid_file.read_text(encoding="utf-8"))
        self.addCleanup(end_daemon, pid_file)
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), os.path.join(self.directory, "run"))
        # Before it runs, signals do to it what they do to any process.
        until(lambda: READY in log.read_text(encoding="utf-8"), "the daemon runs")
        os.kill(pid, signal.SIGTERM)
        self.assert_no_pid_file()
        text = log.read_text(encoding="utf-8")
        self.assertIn("stand-in stopped", text)
        self.assertIn(f"data in {self.directory}/d", text)
