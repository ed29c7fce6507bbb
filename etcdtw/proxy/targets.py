"""Which endpoint is next: round robin, or by priority and weight (RFC 2782) where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from etcdtw.dns.srv import Service

CHANCE_WITHOUT_WEIGHT = 0.01
"""Of endpoints of weight 0 beside others of the same priority: RFC 2782 wants it very small."""


class Dice(Protocol):
    """A source of chance."""

    def random(self) -> float: ...


@dataclass(slots=True, eq=False)
class Target:
    """One endpoint, and whether connections to it work."""

    service: Service
    active: bool = True

    @property
    def address(self) -> str:
        return self.service.host_port


class Targets:
    """All endpoints. One that failed is not picked until it has recovered."""

    def __init__(self, services: Sequence[Service], dice: Dice) -> None:
        self._dice = dice
        self._all = [Target(each) for each in services]
        self._turn = 0

    @property
    def addresses(self) -> list[str]:
        return [each.address for each in self._all]

    @property
    def inactive(self) -> list[Target]:
        return [each for each in self._all if not each.active]

    def replace(self, services: Sequence[Service]) -> bool:
        """Use these from now on; those that stay keep their state, whoever is about to change it.
        Whether anything changed: when the records end, and in which order they came, is nothing."""
        before = {each.address: each for each in self._all}
        shown = self._shown()
        self._all = []
        for each in services:
            target = before.get(each.host_port) or Target(each)
            target.service = each
            self._all.append(target)
        return self._shown() != shown

    def _shown(self) -> set[tuple[str, int, int]]:
        services = [each.service for each in self._all]
        return {(each.host_port, each.priority, each.weight) for each in services}

    def pick(self) -> Target | None:
        """The next one of the best priority that works; None if none does."""
        working = [each for each in self._all if each.active]
        if not working:
            return None
        best = min(each.service.priority for each in working)
        among = [each for each in working if each.service.priority == best]
        weighted = [each for each in among if each.service.weight]
        plain = [each for each in among if not each.service.weight]
        if weighted and not (plain and self._dice.random() < CHANCE_WITHOUT_WEIGHT):
            return self._by_weight(weighted)
        return self._by_turn(plain)

    def _by_weight(self, among: Sequence[Target]) -> Target:
        left = self._dice.random() * sum(each.service.weight for each in among)
        for each in among:
            left -= each.service.weight
            if left < 0:
                return each
        return among[-1]

    def _by_turn(self, among: Sequence[Target]) -> Target:
        # The turn goes over all, so that one that fails does not double its neighbour's share.
        while True:
            found = self._all[self._turn % len(self._all)]
            self._turn += 1
            if found in among:
                return found
