"""Machines with addresses of their own: network namespaces that a test makes, joined by a bridge.

Each namespace lives as long as the process that holds it, so nothing is left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from unittest import SkipTest

NETWORK = "10.0.1"
HOLD = ["sleep", "600"]


class Machines:
    """``count`` machines with the addresses ``first``, … of 10.0.1.0/24, and a switch between them,
    which has 10.0.1.2. Skips the test where they cannot be made."""

    def __init__(self, count: int, first: int = 10) -> None:
        if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
            raise SkipTest("network namespaces need root, ip, unshare and nsenter")
        self._holders: list[subprocess.Popen[bytes]] = []
        self.resolv_conf: str | None = None
        try:
            self._switch = self._namespace()
            self._ip(self._switch, "link add br0 type bridge")
            self._ip(self._switch, "link set br0 up")
            self._ip(self._switch, f"addr add {NETWORK}.2/24 dev br0")
            self._machines = [self._machine(place, first + place) for place in range(count)]
        except (subprocess.CalledProcessError, OSError) as error:
            self.close()
            raise SkipTest(f"no network namespaces here: {error}") from None

    def _namespace(self) -> int:
        holder = subprocess.Popen(["unshare", "-n", "sh", "-c", f"echo up; exec {' '.join(HOLD)}"],
                                  stdout=subprocess.PIPE)  # fmt: skip
        self._holders.append(holder)
        assert holder.stdout is not None, "its output is read"
        if holder.stdout.readline() != b"up\n":
            raise OSError("unshare -n failed")
        self._ip(holder.pid, "link set lo up")
        return holder.pid

    def _machine(self, place: int, last: int) -> int:
        pid = self._namespace()
        self._ip(self._switch, f"link add v{place} type veth peer name eth0 netns {pid}")
        self._ip(self._switch, f"link set v{place} master br0")
        self._ip(self._switch, f"link set v{place} up")
        self._ip(pid, f"addr add {NETWORK}.{last}/24 dev eth0")
        self._ip(pid, "link set eth0 up")
        return pid

    def _ip(self, pid: int, words: str) -> None:
        subprocess.run(
            [*_inside(pid), "ip", *words.split()], check=True, capture_output=True, timeout=20
        )

    def unplug(self, place: int) -> None:
        """Nothing gets to or from a machine any more; nobody is told."""
        self._ip(self._switch, f"link set v{place} down")

    def plug(self, place: int) -> None:
        self._ip(self._switch, f"link set v{place} up")

    def _at(self, place: int | None) -> list[str]:
        """Begins a command on a machine, or at the switch; names go by ``resolv_conf``, a file,
        if it is set."""
        inside = _inside(self._switch if place is None else self._machines[place])
        if self.resolv_conf is None:
            return inside
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return [*inside, "unshare", "-m", "sh", "-c", script, self.resolv_conf]

    def start(
        self,
        place: int | None,
        command: Sequence[str],
        directory: str,
        log: str,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process on a machine, in ``directory``, its output in the file ``log``."""
        with open(log, "ab") as output:
            return subprocess.Popen(
                [*self._at(place), *command],
                cwd=directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(variables or {})},
            )

    def run(
        self, place: int | None, command: Sequence[str], seconds: float = 20
    ) -> subprocess.CompletedProcess[str]:
        """A command on a machine, or at the switch."""
        return subprocess.run(
            [*self._at(place), *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def close(self) -> None:
        """Whatever is left in the namespaces, daemons too, ends with them."""
        for pid in self._inhabitants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for holder in self._holders:
            holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()

    def _inhabitants(self) -> Iterator[int]:
        ours = {_namespace_of(holder.pid) for holder in self._holders}
        # A holder that did not get a namespace is still in that of everybody else.
        ours -= {_namespace_of(os.getpid()), _namespace_of(1), None}
        for name in filter(str.isdigit, os.listdir("/proc")):
            if _namespace_of(int(name)) in ours:
                yield int(name)


def _namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def _inside(pid: int) -> list[str]:
    return ["nsenter", "-t", str(pid), "-n"]
