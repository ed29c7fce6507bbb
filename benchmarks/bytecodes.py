"""``python -m benchmarks.bytecodes put --members 3 --at follower``: what a request makes Python do.

Instructions and calls per request, by function, at the member that is asked, or with ``--watch`` at
the other one. Time on a machine that others use swings by half; this number does not, so it tells
whether a change took work away from a lone request. It does not tell how dear an instruction is:
calls into C, and objects that are made, cost more than others.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count as counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from benchmarks import varying
from benchmarks.h2load import run
from tests.process.cluster import Cluster, until
from tests.process.foreign import ForeignClient, path_of, request_class
from tests.process.member import server_under_test
from tests.process.raw_http2 import message

BEGIN, END = signal.SIGRTMIN, signal.SIGRTMIN + 1
WARM_REQUESTS = 2000
COUNTED_REQUESTS = 500
CALLS_MIN = 0.5
"""Per lone request. What is called less often are timers, of which more fall on a request while it
is counted, which takes it twenty times as long. With many in flight, a call serves several."""
KEY, VALUE = b"bytecodes/key", b"x" * 256


class Counting:
    """Counts instructions and calls of this process between two signals, and writes them down."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._instructions: Counter[CodeType] = Counter()
        self._calls: Counter[CodeType] = Counter()
        signal.signal(BEGIN, self._begin)
        signal.signal(END, self._end)

    def _begin(self, number: int, frame: FrameType | None) -> None:
        sys.settrace(self._trace)

    def _end(self, number: int, frame: FrameType | None) -> None:
        sys.settrace(None)
        lines = (
            f"{count}\t{self._calls[code]}\t{where(code)}"
            for code, count in self._instructions.most_common()
        )
        whole = Path(self._path + ".part")
        whole.write_text("\n".join(lines))
        whole.rename(self._path)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "call":
            self._calls[frame.f_code] += 1
        elif event == "opcode":
            self._instructions[frame.f_code] += 1
        return self._trace


def where(code: CodeType) -> str:
    return f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_qualname}"


def counted_member() -> None:
    """The console command, which counts."""
    Counting(sys.argv.pop(1))
    from etcdtw.app.console import main

    sys.exit(main())


COUNTED = "from benchmarks.bytecodes import counted_member; counted_member()"


Row = tuple[float, float, str]
"""Instructions, calls and the function's name."""


def count(
    group: str, shape: tuple[int, int], members: int, at: str, watch: str, different: bool
) -> list[Row]:
    """Per request, most first: what member 0 does, which is the leader or a follower (``watch``),
    when a leader or a follower (``at``) is asked. ``different``: no request is like another."""
    connections, streams = shape
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "counts")
        commands = [[sys.executable, "-c", COUNTED, str(found)]]
        commands += [server_under_test()] * (members - 1)
        with closing(Cluster(*commands)) as cluster:
            cluster.start()
            counted = cluster.members[0]
            if members > 1:
                cluster.move_leader(0 if watch == "leader" else 1)
            asked = counted if watch == at else cluster.members[1]
            fields: dict[str, object] = {"key": KEY}
            with closing(ForeignClient(asked.endpoint)) as client:
                client.call("KV.Put", key=KEY, value=VALUE)
            if group == "put":
                fields["value"] = VALUE
            rpc = f"KV.{group.capitalize()}"
            numbers = counter()

            def bodies(connection: int) -> Iterator[bytes]:
                for number in numbers:
                    fields["key"] = b"%s/%d" % (KEY, number % WARM_REQUESTS)
                    yield request_class(rpc)(**fields).SerializeToString()

            def send(requests: int) -> None:
                path, load = path_of(rpc), {"connections": connections, "streams": streams}
                if different:
                    varying.run(asked, path, bodies, requests=requests, **load)
                else:
                    run(asked, path, message_of(rpc, fields), requests=requests, **load)

            send(WARM_REQUESTS)
            counted.process.send_signal(BEGIN)
            send(COUNTED_REQUESTS)
            counted.process.send_signal(END)
            until(found.exists, "counts are written")
            rows = [line.split("\t") for line in found.read_text().splitlines()]
    per_request = (
        (int(n) / COUNTED_REQUESTS, int(c) / COUNTED_REQUESTS, name) for n, c, name in rows
    )
    return [row for row in per_request if row[1] >= CALLS_MIN or shape != (1, 1)]


def message_of(rpc: str, fields: dict[str, object]) -> bytes:
    return message(request_class(rpc)(**fields).SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bytecodes", description=__doc__)
    parser.add_argument("group", choices=("put", "range"))
    parser.add_argument("shape", nargs="?", default="1x1", help="connections x streams")
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--at", choices=("leader", "follower"), default="leader")
    parser.add_argument("--watch", choices=("leader", "follower"), help="default: whom is asked")
    parser.add_argument("--different", action="store_true", help="key and grpc-timeout vary")
    parser.add_argument("--lines", type=int, default=40)
    given = parser.parse_args()
    connections, streams = map(int, given.shape.split("x"))
    shape = connections, streams
    watch = given.watch or given.at
    rows = count(given.group, shape, given.members, given.at, watch, given.different)
    print(
        f"{sum(row[0] for row in rows):,.0f} instructions, {sum(row[1] for row in rows):,.0f} calls"
    )
    for instructions, calls, name in rows[: given.lines]:
        print(f"{instructions:8.1f} {calls:7.2f}  {name}")


if __name__ == "__main__":
    main()
