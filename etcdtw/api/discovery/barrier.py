"""Writes that wait while the token that they are for is being reset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Barrier:
    """Whoever registered between the look at a token and its reset could complete a cluster that
    is then thought to be none."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def is_closed(self, token: str) -> bool:
        return token in self._waiting

    def when_open(self, token: str, go: Callable[[], None]) -> None:
        """Call ``go`` when the token's reset is over; it is being reset."""
        self._waiting[token].append(go)

    @contextmanager
    def closed(self, token: str) -> Iterator[None]:
        """For one reset at a time."""
        assert token not in self._waiting, f"{token} is being reset"
        self._waiting[token] = []
        try:
            yield
        finally:
            for go in self._waiting.pop(token):
                go()
