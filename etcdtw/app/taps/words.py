"""Options of services whose command lines are etcd's: its forms are not those of ``usage``."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.python import usage


class Words(usage.Options):
    """Keeps the words for a parser of our own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.words: tuple[str, ...] = ()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        self.words = tuple(options or ())
