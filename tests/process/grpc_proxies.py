"""gRPC proxies as processes, ours and etcd's own."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.process.cluster import until
from tests.process.member import READY_SECONDS, STOP_SECONDS, free_ports


class GrpcProxyProcess:
    """A started proxy in front of some endpoints. ``command`` is the program."""

    client_tls = None

    def __init__(self, command: Sequence[str], endpoints: str, *flags: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="grpc-proxy-"))
        (self.client_port,) = free_ports(1)
        self.endpoint = f"127.0.0.1:{self.client_port}"
        self._output = self.directory / "output"
        self.argv = [
            os.path.abspath(shutil.which(command[0]) or command[0]),
            *command[1:],
            *([] if command[-1].endswith("etcd-grpc-proxy") else ["grpc-proxy", "start"]),
            f"--endpoints={endpoints}",
            f"--listen-addr={self.endpoint}",
            f"--advertise-client-url={self.endpoint}",
            *flags,
        ]
        with self._output.open("wb") as log:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
            )

    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Until it says that it serves, and is ready to."""
        until(lambda: "started gRPC proxy" in self.output(), self.output, READY_SECONDS)

    def page(self, path: str) -> tuple[int, str]:
        """Status and body of what it shows over HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def cpu_seconds(self) -> float:
        """User and system time of the process."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)
