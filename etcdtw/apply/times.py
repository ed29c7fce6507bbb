"""How long requests take to be applied, by kind and outcome."""

from __future__ import annotations

from etcdtw.counting import Histogram, doubling

BOUNDS = doubling(0.0001, 20)


class ApplyTimes:
    """Entries are applied in batches too short to look at the clock for each: those of a batch
    share its time evenly."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, bool], Histogram] = {}
        self._batch: dict[tuple[str, bool], int] = {}

    def count(self, kind: str, succeeded: bool, requests: int = 1) -> None:
        """So many more of the batch under way."""
        batch = self._batch
        key = (kind, succeeded)
        batch[key] = batch.get(key, 0) + requests

    def took(self, seconds: float) -> None:
        """The batch is applied."""
        batch, self._batch = self._batch, {}
        if not batch:
            return
        each = seconds / sum(batch.values())
        for key, times in batch.items():
            found = self.seconds.get(key)
            if found is None:
                found = self.seconds[key] = Histogram(BOUNDS)
            found.observe(each, times)
