"""Several members as processes, in one cluster: ours, real ones, or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import grpc

from tests.process.foreign import ForeignClient
from tests.process.member import Member
from tests.process.secured import Secured

SETTLED_SECONDS = 30.0


class Reached(Protocol):
    """What a client can call: a member, or what stands for one."""

    @property
    def endpoint(self) -> str: ...

    @property
    def client_tls(self) -> Secured | None: ...


class Cluster:
    """Members ``m0``, ``m1``, … of the given commands, founded together."""

    def __init__(
        self,
        *commands: Sequence[str],
        flags: Sequence[str] = (),
        client_tls: Secured | None = None,
        peer_tls: Secured | None = None,
    ) -> None:
        self.members = [
            Member(each, *flags, client_tls=client_tls, peer_tls=peer_tls) for each in commands
        ]
        listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(self.members))
        for number, member in enumerate(self.members):
            member.add_flags(f"--name=m{number}", f"--initial-cluster={listed}")

    def start(self) -> None:
        for each in self.members:
            each.launch()
        self.wait_healthy()

    def wait_healthy(self, members: Sequence[Member] | None = None) -> None:
        """Until every one of these says that it is."""
        for each in members or self.members:
            until(each.healthy, lambda each=each: f"{each.endpoint} healthy:\n{each.output()}")  # type: ignore[misc]

    def client(self, number: int) -> closing[ForeignClient]:
        return closing(client_of(self.members[number]))

    def leader(self) -> int:
        """The number of the member that leads."""
        found: list[int] = []

        def leads() -> bool:
            found[:] = [
                n for n, status in self.statuses() if status.leader == status.header.member_id
            ]
            return len(found) == 1

        until(leads, "nobody leads, or more than one")
        return found[0]

    def move_leader(self, to: int) -> None:
        """Have this member lead."""
        leading = self.leader()
        if leading == to:
            return
        ids = {n: status.header.member_id for n, status in self.statuses()}
        with self.client(leading) as client:
            client.call("Maintenance.MoveLeader", targetID=ids[to])
        until(lambda: self.leader() == to, f"m{to} leads")

    def statuses(self) -> Iterator[tuple[int, Any]]:
        """The status of each member that runs and answers."""
        for number, member in enumerate(self.members):
            if member.running:
                with self.client(number) as client:
                    try:
                        yield number, client.call("Maintenance.Status")
                    except grpc.RpcError:
                        pass

    def hashes(self) -> list[tuple[int, int]]:
        """Revision and hash of each member, once all have applied the same entries."""
        running = [n for n, each in enumerate(self.members) if each.running]
        revision = 0
        for number in running:
            with self.client(number) as client:
                found = client.call("KV.Range", key=b"\0", count_only=True, range_end=b"\0")
                revision = max(revision, found.header.revision)
        hashes = []
        for number in running:
            with self.client(number) as client:
                until(
                    lambda: self._revision_of(client) >= revision,  # used at once
                    f"m{number} does not reach revision {revision}",
                )
                hashes.append((revision, client.call("Maintenance.HashKV", revision=revision).hash))
        return hashes

    @staticmethod
    def _revision_of(client: ForeignClient) -> int:
        found = client.call("KV.Range", key=b"none", serializable=True)
        revision: int = found.header.revision
        return revision

    def close(self) -> None:
        for each in self.members:
            each.close()


def client_of(member: Reached) -> ForeignClient:
    """A client of one member, with a certificate if its port is one of TLS."""
    tls = member.client_tls
    return ForeignClient(member.endpoint, credentials=tls.credentials() if tls else None)


def until(
    condition: Callable[[], bool], what: str | Callable[[], str], seconds: float = SETTLED_SECONDS
) -> None:
    """Wait for something that must come; ``what`` tells what did not."""
    end = time.monotonic() + seconds
    pauses = growing_pauses()
    while not condition():
        if time.monotonic() > end:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {told}")
        time.sleep(next(pauses))


def growing_pauses(first: float = 0.02, longest: float = 0.25) -> Iterator[float]:
    """Seconds between two looks: whoever looks all the time slows down what he waits for."""
    while True:
        yield first
        first = min(first * 1.5, longest)
