"""A little of each fuzz target; ``python -m tests.fuzz`` does more."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import SEEDS, TARGETS

INPUTS = 400


class FuzzTests(SynchronousTestCase):
    def fuzz(self, target: str) -> None:
        corpus = SEEDS[target]()
        for each in corpus:
            TARGETS[target](each)
        dice = Random(f"{target}/ci")
        for number in range(INPUTS):
            data = mutated(dice, corpus)
            try:
                TARGETS[target](data)
            except Exception as error:
                raise AssertionError(f"{target}, input {number}: {data!r}") from error

    def test_frames(self) -> None:
        """HTTP/2 frames."""
        self.fuzz("frames")

    def test_hpack(self) -> None:
        """Header blocks."""
        self.fuzz("hpack")

    def test_port(self) -> None:
        """Whatever may reach the client port."""
        self.fuzz("port")

    def test_grpc(self) -> None:
        """Bodies of gRPC calls."""
        self.fuzz("grpc")

    def test_gateway(self) -> None:
        """JSON bodies."""
        self.fuzz("gateway")
