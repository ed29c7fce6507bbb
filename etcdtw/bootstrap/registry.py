"""What a service where members meet looks like from here: who has registered, how many there are to
be, and the refusals in etcd's words. ``discovery_v2`` and ``registry_v3`` are such services."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from etcdtw.bootstrap.refusal import CLUSTER_IS_FULL, BootstrapError, BootstrapUnavailable

SIZE_MAX = (1 << 63) - 1


class Unreachable(Exception):
    """The service did not answer, or not as one; it is asked again."""


@dataclass(frozen=True)
class Registered:
    """One registration: the member's id in hex, what it says, and when it came among the others."""

    identity: str
    value: str
    created: int


@dataclass(frozen=True)
class Status:
    """All that have registered, the first first, and how many the cluster is to have."""

    registered: tuple[Registered, ...]
    size: int

    @property
    def members(self) -> tuple[Registered, ...]:
        """Those that came in time."""
        return self.registered[: self.size]

    def of(self, identity: str) -> Registered | None:
        return next((each for each in self.registered if each.identity == identity), None)

    def is_full_for(self, identity: str) -> bool:
        """Whether all places are taken, and none of them by this member."""
        is_member = identity in [each.identity for each in self.members]
        return not is_member and len(self.registered) >= self.size


def status_of(registered: Iterable[Registered], size: int) -> Status:
    return Status(tuple(sorted(registered, key=lambda each: each.created)), size)


def parse_size(text: str) -> int:
    """How many members a cluster is to have; ValueError for what is no such number."""
    if not re.fullmatch(r"\+?[0-9]{1,40}", text) or not 0 < int(text) <= SIZE_MAX:
        raise ValueError(f"it is {text!r}")
    return int(text)


@dataclass(frozen=True)
class Refusals:
    """The errors, in etcd's words. ``flag`` is where the token comes from, ``place`` what messages
    call it, ``make_size`` the command that writes the size."""

    flag: str
    place: str
    make_size: str
    bad_url: str
    no_size_sentence: str = ""

    def failed(self, reason: str, hint: str = "") -> BootstrapError:
        return BootstrapError(
            self.flag,
            f"failed to join discovery cluster ({reason})",
            code="ETW-BOOT-DISCOVERY",
            hint=hint or f"--{self.flag} is {self.place}",
        )

    def unavailable(self, reason: str) -> BootstrapUnavailable:
        return BootstrapUnavailable(
            self.flag,
            f"failed to join discovery cluster (discovery: {reason})",
            code="ETW-BOOT-DISCOVERY",
            hint=f"--{self.flag} is {self.place}",
        )

    def no_size(self) -> BootstrapError:
        return BootstrapError(
            self.flag,
            "failed to join discovery cluster (discovery: size key not found)",
            code="ETW-BOOT-SIZE",
            sentence=self.no_size_sentence,
            hint=self.make_size,
        )

    def bad_size(self, why: Exception) -> BootstrapError:
        return self.failed("discovery: size key is bad", str(why))

    def full(self) -> BootstrapError:
        return BootstrapError(
            self.flag,
            "failed to join discovery cluster (discovery: cluster is full)",
            code=CLUSTER_IS_FULL,
            sentence="etcd: discovery: cluster is full",
            hint="do not reuse discovery token; generate a new one to bootstrap a cluster",
        )

    def registered_before(self, name: str) -> BootstrapError:
        return BootstrapError(
            self.flag,
            f'member "{name}" has previously registered with discovery service token '
            f"({self.place})",
            code="ETW-BOOT-REGISTERED",
            hint=(
                "but etcd could not find valid cluster configuration in the given data dir; check "
                "the given data dir path if the previous bootstrap succeeded, or use a new "
                "discovery token if the previous bootstrap failed"
            ),
        )

    def removed(self, name: str) -> BootstrapError:
        return BootstrapError(
            self.flag,
            "failed to join discovery cluster (discovery: the registration is gone)",
            code="ETW-BOOT-REMOVED",
            sentence=(
                f'the registration of member "{name}" was removed from discovery service token '
                f"({self.place})"
            ),
            hint=(
                "somebody has reset the token, or deleted this registration; a start with the "
                "same data directory registers again"
            ),
        )

    def invalid_url(self, found: Registered) -> BootstrapError:
        return self.failed(self.bad_url, f"{found.identity} is {found.value!r}")

    def same_names(self, found: Sequence[Registered]) -> BootstrapError:
        return BootstrapError(
            self.flag,
            "failed to join discovery cluster (discovery: found duplicate name)",
            code="ETW-BOOT-DISCOVERY",
            hint=(
                "member with duplicated name has already been registered; cURL the discovery "
                "token URL for details; do not reuse discovery token; generate a new one to "
                f"bootstrap a cluster; registered: {', '.join(each.value for each in found)}"
            ),
        )


class Registry(Protocol):
    """The other side, by one protocol. Its questions raise :class:`Unreachable` where it helps to
    ask again, and BootstrapError where it does not."""

    refusals: Refusals

    async def status(self) -> Status:
        """Who is there now: never less recent than what was told before."""

    async def register(self, identity: str, value: str) -> bool:
        """False if somebody is registered under this id; then nothing has changed."""

    async def newcomers(self, seconds: float) -> Sequence[Registered] | None:
        """Who came since the last answer, as soon as there is somebody, or after about so many
        ``seconds``. None if it cannot be told, or somebody has gone: then the status has to be
        asked for again."""

    def tell_found(self, found: Registered, is_self: bool) -> None: ...

    def tell_waiting(self, found: int, size: int) -> None: ...

    def tell_complete(self, found: int, size: int) -> None: ...

    def tell_retry(self, step: str, reason: Exception, seconds: float) -> None: ...
