"""The member under test beside real etcd, and etcdctl run against both.

``Pair.differences(steps)`` runs the same command lines on both and reports every step whose
output, error output or exit code is not the same once the values of one run are replaced by
their names.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from tests.process.foreign import ForeignClient
from tests.process.member import Member, etcdctl, real_etcd, server_under_test

COMMAND_SECONDS = 20.0

# Text of one run, whoever the server is. Everything else must be equal.
VOLATILE = [
    (re.compile(r'"ts":"[^"]*"'), '"ts":TIME'),
    (re.compile(r"0x[0-9a-f]+"), "POINTER"),
    (re.compile(r"\b[0-9.]+[µmn]?s\b"), "TIME"),
    (re.compile(r"remaining\(\d+s\)"), "remaining(TIME)"),
    (re.compile(r'"ttl":\d+'), '"ttl":TIME'),
    (re.compile(r'"TTL" : \d+'), '"TTL" : TIME'),
    (re.compile(r'"(dbSize|dbSizeInUse|raftIndex|raftAppliedIndex)":\d+'), r'"\1":NUMBER'),
    (re.compile(r'"(DBSize|DBSizeInUse|RaftIndex|RaftAppliedIndex)" : \d+'), r'"\1" : NUMBER'),
    (re.compile(r" {2,}"), " "),
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r"[0-9.]+ [kM]?B"), "SIZE"),
    # Raft index and applied index after the term: "true, false, 2, 7, 7," and the table's row.
    (re.compile(r"((?:true|false), \d+), \d+, \d+,"), r"\1, INDEX, INDEX,"),
    (re.compile(r"((?:true|false) \| \d+) \| \d+ \| \d+ \|"), r"\1 | INDEX | INDEX |"),
]


@dataclass(frozen=True)
class Step:
    """One etcdctl command; ``learn`` takes names for later steps out of its output.

    ``line`` may hold ``{lease}`` and the like, replaced by what was learned on that side.
    ``unordered`` sorts the words of the output first, for listings without an order.
    """

    line: str
    stdin: str = ""
    learn: str = ""
    unordered: bool = False


def steps(*lines: str | Step) -> list[Step]:
    return [line if isinstance(line, Step) else Step(line) for line in lines]


class Side:
    """One member, etcdctl for it, and what identifies this run in the output."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.names: dict[str, str] = {}
        self.client: ForeignClient | None = None

    def start(self) -> None:
        self.member.start()
        self.client = ForeignClient(self.member.endpoint)
        self.client.call("KV.Range", key=b"ready")
        header = self.client.call("Cluster.MemberList").header
        for name in ("member_id", "cluster_id"):
            value = getattr(header, name)
            self.names |= {str(value): name.upper(), f"{value:x}": f"HEX_{name.upper()}"}
        self.names[str(self.member.client_port)] = "CLIENT_PORT"
        self.names[str(self.member.peer_port)] = "PEER_PORT"

    def argv(self, line: str) -> list[str]:
        learned = {name: value for value, name in self.names.items()}
        for name in re.findall(r"\{(\w+)\}", line):
            line = line.replace(f"{{{name}}}", learned[name])
        return [etcdctl(), f"--endpoints={self.member.endpoint}", *shlex.split(line)]

    def run(self, step: Step) -> str:
        """The step's whole outcome as text, with the names of this run replaced."""
        done = subprocess.run(
            self.argv(step.line),
            input=step.stdin.encode(),
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        stdout, stderr = (
            out.decode(errors="backslashreplace") for out in (done.stdout, done.stderr)
        )
        if step.learn:
            found = re.search(step.learn, stdout)
            if found is not None:
                for name, value in found.groupdict().items():
                    self.names |= {value: name, str(int(value, 16)): f"DECIMAL_{name}"}
        outcome = self.normalised(stdout)
        if step.unordered:
            outcome = " ".join(sorted(re.split(r"[\s\[\],]+", outcome)))
        return f"{outcome}\n-- stderr: {self.normalised(stderr)}\n-- exit code: {done.returncode}"

    def normalised(self, text: str) -> str:
        for pattern, name in VOLATILE:
            text = pattern.sub(name, text)
        for value in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<![0-9a-f]){value}(?![0-9a-f])", self.names[value], text)
        return text

    def watch(self, line: str, stdin: str, then: Callable[[Side], None], until: str) -> str:
        """Output of a watch command up to the text ``until``; ``then`` runs beside it.

        With standard input (let it end in a progress request) ``then`` starts after the answer
        to that request, else at once.
        """
        process = subprocess.Popen(
            self.argv(line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdin is not None and process.stdout is not None
        stdout = process.stdout
        lines: list[str] = []
        try:
            with ThreadPoolExecutor(1) as reader:

                def read_to(text: str) -> None:
                    while not (lines and text in lines[-1]):
                        raw = stdout.readline()
                        lines.append(raw.decode(errors="backslashreplace") or "-- ended")
                        if not raw:
                            return

                process.stdin.write(stdin.encode())
                process.stdin.flush()
                try:
                    if stdin:
                        reader.submit(read_to, "progress notify").result(COMMAND_SECONDS)
                    then(self)
                    reader.submit(read_to, until).result(COMMAND_SECONDS)
                except TimeoutError:
                    lines.append(f"-- {until!r} never came")
                finally:
                    process.kill()
        finally:
            process.wait()
            process.stdin.close()
            process.stdout.close()
        return self.normalised("".join(lines))

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        self.member.close()


class Pair:
    """Real etcd and the member under test, started together with the same flags."""

    def __init__(self, *flags: str) -> None:
        self.real = Side(Member(real_etcd(), *flags))
        self.ours = Side(Member(server_under_test(), *flags))
        self._both = ThreadPoolExecutor(2)

    def start(self) -> None:
        self.both(Side.start)

    def both(self, action: Callable[[Side], Any]) -> tuple[Any, Any]:
        """The results of the same action on etcd and on ours, run at the same time."""
        running = [self._both.submit(action, side) for side in (self.real, self.ours)]
        real, ours = (future.result() for future in running)
        return real, ours

    def differences(self, script: Iterable[Step]) -> list[str]:
        found = []
        for step in script:
            real, ours = self.both(methodcaller("run", step))
            if real != ours:
                found.append(difference(step.line, real, ours))
        return found

    def watch_differences(
        self, line: str, stdin: str, then: Callable[[Side], None], until: str
    ) -> list[str]:
        real, ours = self.both(lambda side: side.watch(line, stdin, then, until))
        return [] if real == ours else [difference(line, real, ours)]

    def close(self) -> None:
        self._both.shutdown()
        self.real.close()
        self.ours.close()


def difference(line: str, real: str, ours: str) -> str:
    return f"etcdctl {line}\n{indented('etcd', real)}\n{indented('ours', ours)}"


def indented(label: str, text: str) -> str:
    return "\n".join(f"  {label} | {line}" for line in text.splitlines())
