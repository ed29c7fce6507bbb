"""Closed-loop load with one fixed body, by nghttp2's ``h2load``."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from benchmarks.samples import Sample
from tests.process.cluster import Reached


class Loaded(Reached, Protocol):
    """What takes a load: a member, or a cluster that is asked through one of its members."""

    @property
    def client_port(self) -> int: ...

    def cpu_seconds(self) -> float: ...


class LoadFailed(Exception):
    """The load generator or a check of its result says that requests went wrong."""


def run(
    member: Loaded,
    path: str,
    body: bytes,
    *,
    connections: int,
    streams: int,
    requests: int,
    answer_bytes_min: int = 0,
) -> Sample:
    """Send ``requests`` times the same gRPC body, or JSON to a gateway's path; every answer must be
    HTTP 200.

    A gRPC error is HTTP 200 as well: callers check the store, and ``answer_bytes_min`` makes
    sure that the answers carried at least that many bytes of messages on average.
    """
    with tempfile.TemporaryDirectory() as folder:
        body_file, log_file = Path(folder, "body"), Path(folder, "log")
        body_file.write_bytes(body)
        cpu_before = member.cpu_seconds()
        done = subprocess.run(
            [
                *_command(member, path, body_file, connections, streams),
                f"--requests={requests}",
                f"--log-file={log_file}",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        cpu_seconds = member.cpu_seconds() - cpu_before
        rows = [line.split("\t") for line in log_file.read_text().splitlines()]
    succeeded = sum(status in ("200", "201") for _, status, _ in rows)
    if done.returncode or succeeded != requests:
        raise LoadFailed(f"{succeeded} of {requests} succeeded\n{done.stdout}{done.stderr}")
    answer_bytes = _answer_bytes(done.stdout)
    if answer_bytes < answer_bytes_min * requests:
        raise LoadFailed(f"{answer_bytes} bytes of answers, too few for {requests} requests")
    begins = [int(start) for start, _, _ in rows]
    latencies = [int(duration) for _, _, duration in rows]
    ends = (start + duration for start, duration in zip(begins, latencies, strict=True))
    return Sample.of_latencies((max(ends) - min(begins)) / 1e6, latencies, cpu_seconds)


@contextmanager
def in_background(
    member: Loaded, path: str, body: bytes, *, connections: int, streams: int
) -> Iterator[None]:
    """Keep the member busy with the same request all the while; its answers are not checked."""
    with tempfile.TemporaryDirectory() as folder:
        body_file = Path(folder, "body")
        body_file.write_bytes(body)
        process = subprocess.Popen(
            [*_command(member, path, body_file, connections, streams), "--requests=1000000000"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(0.2)  # until it is at full speed
            yield
            if process.poll() is not None:
                raise LoadFailed("the load in the background ended too soon")
        finally:
            process.kill()
            process.wait()


def _command(
    member: Loaded, path: str, body_file: Path, connections: int, streams: int
) -> list[str]:
    scheme = "https" if member.client_tls else "http"
    data = [f"--data={body_file}"]
    if path.startswith("/v3/"):
        protocol = ["--h1", "--header=content-type: application/json"]
    elif path.startswith("/v2/"):
        protocol = ["--h1"]
        if body_file.stat().st_size:
            protocol += [
                "--header=content-type: application/x-www-form-urlencoded",
                "--header=:method: PUT",
            ]
        else:
            data = []
    else:
        protocol = ["--header=content-type: application/grpc", "--header=te: trailers"]
    return [
        "h2load",
        f"--clients={connections}",
        f"--max-concurrent-streams={streams}",
        *protocol,
        *data,
        f"{scheme}://{member.endpoint}{path}",
    ]


def _answer_bytes(report: str) -> int:
    """Bytes of DATA in h2load's line ``traffic: ... (N) total, ... (N) headers, ... (N) data``."""
    line = next(line for line in report.splitlines() if line.startswith("traffic:"))
    return int(line.rpartition("(")[2].partition(")")[0])
