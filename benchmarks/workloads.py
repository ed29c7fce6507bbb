"""The workloads: what is sent, and how success is proved.

A put workload has succeeded if the store's revision rose by exactly the number of puts and a
sample reads back; a range workload if every answer is as long as the data it must hold.
"""

from __future__ import annotations

import json
import re
import subprocess
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count as counter

from benchmarks import h2load, varying, watching
from benchmarks.h2load import Loaded, LoadFailed
from benchmarks.samples import Sample
from etcdtw.pb.rpc_pb2 import PutRequest, RangeRequest
from tests.process.cluster import client_of
from tests.process.member import Member, etcdctl
from tests.process.raw_http2 import message

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
VALUE_BYTES = 256
PRELOADED_KEYS = 1000
LARGE_KEYS = 1_000_000
KEYS_PER_TXN = 100
CALIBRATION_REQUESTS = 400
V2_KEY = "/v2/keys/bench/key"
V2_BODY = b"value=" + b"x" * VALUE_BYTES
REQUESTS_MAX = 400_000


def preload(member: Loaded, keys: int) -> None:
    """Write ``keys`` keys ``key/00000000`` and up with values of 256 bytes."""
    client = client_of(member)
    for first in range(0, keys, KEYS_PER_TXN):
        numbers = range(first, min(first + KEYS_PER_TXN, keys))
        client.call(
            "KV.Txn",
            success=[{"request_put": {"key": key_of(n), "value": value_of(n)}} for n in numbers],
        )
    client.close()


def key_of(number: int) -> bytes:
    return b"key/%08d" % number


def value_of(number: int) -> bytes:
    return (b"value %d " % number).ljust(VALUE_BYTES, b".")


class Workload(ABC):
    """Something to measure on one member at a time."""

    name: str
    group: str
    unit = "req/s"
    more_is_better = True
    # False: the member is not kept between rounds; ``measure`` starts and ends it.
    needs_running_member = True
    rounds_max = 1000

    def prepare(self, member: Member) -> None:
        """Once per member, before the first round."""
        return

    @abstractmethod
    def measure(self, member: Member, seconds: float) -> Sample:
        """One round of about ``seconds``."""


@dataclass
class Unary(Workload):
    """A closed loop of unary calls: ``connections`` x ``streams``."""

    group: str
    connections: int
    streams: int
    varied: bool = False
    keys: int = 1
    via_gateway: bool = False

    def __post_init__(self) -> None:
        shape = f"{self.connections}x{self.streams}"
        what = self.group if self.keys == 1 else f"{self.group} of {self.keys:,} keys"
        self.name = f"{what} {shape}" + (", all different" if self.varied else "")
        if self.via_gateway:
            self.name = f"gateway {what}, {self.connections} connections"
        self._rates: dict[int, float] = {}
        self._runs = counter()

    def prepare(self, member: Loaded) -> None:
        if self.group == "range":
            preload(member, PRELOADED_KEYS)

    def measure(self, member: Loaded, seconds: float) -> Sample:
        if member.client_port not in self._rates:
            self._rates[member.client_port] = self._checked(member, CALIBRATION_REQUESTS).value
        requests = int(self._rates[member.client_port] * seconds)
        lanes = self.connections * self.streams
        requests = max(lanes, min(requests, REQUESTS_MAX) // lanes * lanes)
        sample = self._checked(member, requests)
        self._rates[member.client_port] = sample.value
        return sample

    def _checked(self, member: Loaded, requests: int) -> Sample:
        requests -= requests % self.connections
        if self.group == "range":
            answer_bytes = self.keys * VALUE_BYTES
            return self._load(member, requests, answer_bytes)
        client = client_of(member)
        try:
            before = client.call("KV.Range", key=b"none").header.revision
            sample = self._load(member, requests, 0)
            last = client.call("KV.Range", key=b"put/", range_end=b"put0", limit=1)
        finally:
            client.close()
        rise = last.header.revision - before
        if rise != requests:
            raise LoadFailed(f"{requests} puts raised the revision by {rise}")
        if len(last.kvs) != 1 or len(last.kvs[0].value) != VALUE_BYTES:
            raise LoadFailed("a sample of the puts does not read back")
        return sample

    def _load(self, member: Loaded, requests: int, answer_bytes_min: int) -> Sample:
        shape = {
            "connections": self.connections,
            "streams": self.streams,
            "requests": requests,
            "answer_bytes_min": answer_bytes_min,
        }
        path = PUT if self.group == "put" else RANGE
        if self.via_gateway:
            body = json.dumps(self._json()).encode()
            return h2load.run(member, f"/v3/kv/{self.group}", body, **shape)
        if self.varied:
            run = next(self._runs)
            return varying.run(member, path, lambda n: self._bodies(run, n), **shape)
        return h2load.run(member, path, message(self.fixed_body()), **shape)

    def _json(self) -> dict[str, str]:
        """The fixed request as the gateway takes it."""
        key = b"put/fixed" if self.group == "put" else key_of(500)
        found = {"key": b64encode(key).decode()}
        if self.group == "put":
            found["value"] = b64encode(value_of(0)).decode()
        return found

    def fixed_body(self) -> bytes:
        if self.group == "put":
            return PutRequest(key=b"put/fixed", value=value_of(0)).SerializeToString()
        if self.keys == 1:
            return RangeRequest(key=key_of(500)).SerializeToString()
        return RangeRequest(key=b"key/", range_end=b"key0").SerializeToString()

    def _bodies(self, run: int, connection: int) -> Iterator[bytes]:
        for number in counter():
            if self.group == "put":
                key = b"put/%d/%d/%08d" % (run % 2, connection, number % 2000)
                yield PutRequest(key=key, value=value_of(number)).SerializeToString()
            else:
                key = key_of((number * 7919 + connection) % PRELOADED_KEYS)
                yield RangeRequest(key=key).SerializeToString()


@dataclass
class PutWhileReading(Workload):
    """Puts, 10x1, beside ranges that keep the server busy; compared by the puts' p99."""

    group: str = "mixed"
    unit = "ms"
    more_is_better = False
    name = "put 10x1 beside ranges 10x10, p99"

    def __post_init__(self) -> None:
        self._put = Unary("put", 10, 1)
        self._range = Unary("range", 10, 10)

    def prepare(self, member: Member) -> None:
        self._range.prepare(member)

    def measure(self, member: Member, seconds: float) -> Sample:
        body = message(self._range.fixed_body())
        with h2load.in_background(member, RANGE, body, connections=10, streams=10):
            sample = self._put.measure(member, seconds)
        assert sample.p99_us is not None
        return replace(sample, value=sample.p99_us / 1000)


@dataclass
class Watch(Workload):
    """One put at a time, seen by many watchers; compared by when the last of them has it."""

    connections: int
    watchers: int = 1000
    group: str = "watch"
    unit = "ms"
    more_is_better = False

    def __post_init__(self) -> None:
        plural = "s" if self.connections > 1 else ""
        self.name = f"1 put to {self.watchers:,} watchers on {self.connections} stream{plural}"

    def measure(self, member: Member, seconds: float) -> Sample:
        return watching.run(member, streams=self.connections, watchers=self.watchers, puts=30)


@dataclass
class OldApi(Workload):
    """A closed loop of the v2 API, one request in flight per connection."""

    method: str
    connections: int
    group: str = "v2"

    def __post_init__(self) -> None:
        self.name = f"v2 {self.method}, {self.connections} connections"

    def prepare(self, member: Loaded) -> None:
        h2load.run(member, V2_KEY, V2_BODY, connections=1, streams=1, requests=1)

    def measure(self, member: Loaded, seconds: float) -> Sample:
        body = V2_BODY if self.method == "put" else b""
        shape = {"connections": self.connections, "streams": 1}
        rate = h2load.run(member, V2_KEY, body, requests=CALIBRATION_REQUESTS, **shape).value
        lanes = self.connections
        requests = max(lanes, min(int(rate * seconds), REQUESTS_MAX) // lanes * lanes)
        return h2load.run(member, V2_KEY, body, requests=requests, **shape)


@dataclass
class Handshakes(Workload):
    """New connections over TLS, each for one small read."""

    connections: int = 300
    group: str = "handshakes"
    unit = "handshakes/s"

    def __post_init__(self) -> None:
        self.name = f"TLS handshakes, {self.connections} at once"

    def prepare(self, member: Loaded) -> None:
        preload(member, 1)

    def measure(self, member: Loaded, seconds: float) -> Sample:
        body = message(RangeRequest(key=key_of(0)).SerializeToString())
        many = self.connections
        return h2load.run(member, RANGE, body, connections=many, streams=1, requests=many)


@dataclass
class Start(Workload):
    """Seconds from spawning the process to the first healthy answer."""

    keys: int = 0
    group: str = "start"
    unit = "s"
    more_is_better = False
    needs_running_member = False

    def __post_init__(self) -> None:
        self.name = "start to healthy, " + (f"{self.keys:,} keys" if self.keys else "empty")

    def prepare(self, member: Member) -> None:
        if self.keys:
            member.start()
            preload(member, self.keys)
            member.stop()

    def measure(self, member: Member, seconds: float) -> Sample:
        if not self.keys:
            member.wipe()
        took = member.start(look_seconds=0.005)
        member.stop()
        return Sample(took)


@dataclass
class Resident(Workload):
    """Resident memory of a fresh process after some writes."""

    keys: int = 0
    puts_on_one_key: int = 0
    group: str = "rss"
    unit = "MiB"
    more_is_better = False
    needs_running_member = False
    rounds_max = 3

    def __post_init__(self) -> None:
        parts = [f"{self.keys:,} keys"] if self.keys else []
        parts += [f"{self.puts_on_one_key:,} puts on one key"] if self.puts_on_one_key else []
        self.name = "RSS, " + (" and ".join(parts) or "empty")

    def measure(self, member: Member, seconds: float) -> Sample:
        member.wipe()
        member.start()
        preload(member, self.keys)
        if self.puts_on_one_key:
            body = message(PutRequest(key=b"put/fixed", value=value_of(0)).SerializeToString())
            requests = self.puts_on_one_key
            h2load.run(member, PUT, body, connections=10, streams=10, requests=requests)
        resident = member.resident_bytes()
        member.stop()
        return Sample(resident / (1 << 20))


@dataclass
class CheckPerf(Workload):
    """etcd's own client code under its own rate-limited load; compared by its slowest request."""

    load: str = "s"
    group: str = "check-perf"
    unit = "s"
    more_is_better = False
    rounds_max = 1

    def __post_init__(self) -> None:
        self.name = f"etcdctl check perf --load={self.load}, slowest request"

    def measure(self, member: Member, seconds: float) -> Sample:
        done = subprocess.run(
            [etcdctl(), f"--endpoints={member.endpoint}", "check", "perf", f"--load={self.load}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        slowest = re.search(r"Slowest request (?:took|took too long:) ([0-9.]+)s", done.stdout)
        if done.returncode or slowest is None:
            raise LoadFailed(f"check perf failed on {member.endpoint}:\n{done.stdout}{done.stderr}")
        return Sample(float(slowest[1]))


SHAPES = ((1, 1), (10, 10), (100, 10), (100, 1))


def workloads(
    group: str, *, check_load: str = "s", start_keys: int = PRELOADED_KEYS
) -> list[Workload]:
    """The rows of one group of the table."""
    if group in ("put", "range"):
        fixed: list[Workload] = [Unary(group, *shape) for shape in SHAPES]
        return [*fixed, Unary(group, 10, 10, varied=True)]
    if group == "range1000":
        return [Unary("range", *shape, keys=1000) for shape in ((1, 1), (10, 10))]
    if group == "gateway":
        return [
            Unary(each, connections, 1, via_gateway=True)
            for each in ("range", "put")
            for connections in (1, 10, 100)
        ]
    if group == "mixed":
        return [PutWhileReading()]
    if group == "watch":
        return [Watch(connections) for connections in (1, 10, 100)]
    if group == "v2":
        return [OldApi(each, many) for each in ("put", "get") for many in (1, 10, 100)]
    if group == "handshakes":
        return [Handshakes()]
    if group == "start":
        return [Start(), Start(keys=start_keys)]
    if group == "large":
        return [Start(keys=LARGE_KEYS), Resident(keys=LARGE_KEYS)]
    if group == "rss":
        return [Resident(), Resident(keys=1000), Resident(puts_on_one_key=120_000)]
    assert group == "check-perf", group
    return [CheckPerf(load=check_load)]


GROUPS = (
    "put",
    "range",
    "range1000",
    "gateway",
    "mixed",
    "watch",
    "start",
    "rss",
    "large",
    "check-perf",
)
ONLY_OVER_TLS = ("handshakes",)
ONLY_FOR_OLD = ("v2",)
"""With ``--baseline "etcd --enable-v2"`` of 3.4, and no other of etcd."""
