"""``etcdtw playground``: a cluster on this machine, to try things out."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from etcdtw.app.refusals import start_error_text

CLIENT_PORT, PEER_PORT, PORT_STEP = 2379, 2380, 10000
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
NAME = "infra"


def run(words: Sequence[str]) -> int:
    """Run the cluster until a signal ends it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="etcdtw playground",
        description="A cluster of several members on this machine, on loopback, to try things out. "
        "Ctrl-C stops it; the same command goes on with its data.",
    )
    parser.add_argument("--size", type=int, default=3, help="members (default 3)")
    parser.add_argument("--dir", default="playground", help="data and logs (default playground)")
    parser.add_argument(
        "--port",
        type=int,
        default=CLIENT_PORT,
        help=f"client port of the first member; each other has {PORT_STEP} more (default 2379)",
    )
    parser.add_argument("flags", nargs="*", help="flags for all members, behind --")
    chosen = parser.parse_args(words)
    most = chosen.port + 1 + (chosen.size - 1) * PORT_STEP
    if not chosen.size >= 1 or most > 65535:
        parser.error(f"{chosen.size} members do not fit from port {chosen.port} on")
    return Playground(chosen.size, chosen.dir, chosen.port, chosen.flags).run()


class Playground:
    """Members as child processes, which end with this one."""

    def __init__(self, size: int, directory: str, port: int, flags: Sequence[str]) -> None:
        self.directory = os.path.abspath(directory)
        self._flags = flags
        self._ports = [port + place * PORT_STEP for place in range(size)]
        self._members: list[subprocess.Popen[bytes]] = []
        self._stopping = False

    @property
    def endpoints(self) -> str:
        return ",".join(f"http://127.0.0.1:{port}" for port in self._ports)

    def command(self, place: int) -> list[str]:
        """The command line of one member; what a person would type for it."""
        port = self._ports[place]
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
        cluster = ",".join(
            f"{NAME}{n}=http://127.0.0.1:{each + 1}" for n, each in enumerate(self._ports)
        )
        return [
            *(sys.executable, sys.argv[0]),
            *("--name", f"{NAME}{place}"),
            *("--data-dir", os.path.join(self.directory, f"{NAME}{place}.etcd")),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", cluster, "--initial-cluster-token", "playground"),
            *self._flags,
        ]

    def run(self) -> int:
        with ExitStack() as logs:
            try:
                os.makedirs(self.directory, exist_ok=True)
                places = range(len(self._ports))
                opened = [logs.enter_context(open(self._log(place), "ab")) for place in places]
            except OSError as error:
                print(f"Error: {start_error_text(error)}", file=sys.stderr)
                return 1
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._stop)
            for place, log in enumerate(opened):
                self._members.append(self._start(self.command(place), log))
        if self._wait_ready():
            print(self._greeting(), flush=True)
        return self._wait_end()

    def _start(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C reaches this process, which stops the members in order.
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def _log(self, place: int) -> str:
        return os.path.join(self.directory, f"{NAME}{place}.log")

    def _wait_ready(self) -> bool:
        end = time.monotonic() + READY_SECONDS
        for place, port in enumerate(self._ports):
            while not _healthy(port):
                if self._stopping or self._members[place].poll() is not None:
                    return False
                if time.monotonic() > end:
                    print(f"{NAME}{place} is not healthy yet; see {self._log(place)}", flush=True)
                    return False
                time.sleep(0.1)
        return True

    def _greeting(self) -> str:
        rows = [
            f"  {NAME}{place}  http://127.0.0.1:{port}  pid {member.pid}  log {self._log(place)}"
            for place, (port, member) in enumerate(zip(self._ports, self._members, strict=True))
        ]
        return "\n".join(
            [
                f"A cluster of {len(rows)} members is up:",
                *rows,
                "Try:",
                f"  export ETCDCTL_ENDPOINTS={self.endpoints}",
                "  etcdctl put greeting hello && etcdctl get greeting",
                "  etcdctl endpoint status -w table",
                "  kill -9 one of the pids above, and see the others go on",
                "Ctrl-C stops it; the same command goes on with its data.",
            ]
        )

    def _wait_end(self) -> int:
        """Until all are gone: told to stop, or each by itself; 1 if one failed by itself."""
        failed = 0
        reported: set[int] = set()
        while len(reported) < len(self._members):
            for place, member in enumerate(self._members):
                code = member.poll()
                if code is None or place in reported:
                    continue
                reported.add(place)
                if not self._stopping:
                    failed = 1
                    print(f"{NAME}{place} has ended: {_ended(code)}", flush=True)
                    print(_last_lines(self._log(place)), file=sys.stderr, flush=True)
            time.sleep(0.1)
        return failed

    def _stop(self, number: int, frame: object) -> None:
        if self._stopping:
            return
        self._stopping = True
        for member in self._members:
            if member.poll() is None:
                member.terminate()
        signal.signal(signal.SIGALRM, self._kill)
        signal.setitimer(signal.ITIMER_REAL, STOP_SECONDS)

    def _kill(self, number: int, frame: object) -> None:
        for member in self._members:
            member.kill()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _last_lines(path: str, count: int = 3) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-count:]).rstrip()
