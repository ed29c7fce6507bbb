"""The checker of histories, on small ones, on random ones, and on recorded ones with verdicts."""

from __future__ import annotations

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.linearizability import NEVER, Impossible, Operation, is_linearizable

RECORDED = Path(__file__).parents[3] / "shared/vectors/linearizability/jepsen-etcd"
_LINE = re.compile(r"INFO +jepsen.util - (\S+)\s+(:\w+)\s+(:\S+)(?:\s+(.*))?")


def register(state: object, operation: Operation) -> object:
    """A register: ``("read",)`` answers its value, ``("write", new)`` nothing, and ``("cas", old,
    new)`` whether it was ``old``."""
    kind, *values = operation.request
    known = operation.answered != NEVER
    if kind == "read":
        if known and operation.answer != state:
            raise Impossible
        return state
    if kind == "write":
        return values[0]
    if known and operation.answer != (state == values[0]):
        raise Impossible
    return values[1] if state == values[0] else state


def op(asked: float, answered: float, *request: object, answer: object = None) -> Operation:
    return Operation(asked, answered, request, answer)


def by_trial(history: list[Operation]) -> bool:
    """The definition: some order of all that were answered and some of the others."""
    sure = [each for each in history if each.answered != NEVER]
    unsure = [each for each in history if each.answered == NEVER]
    for mask in range(1 << len(unsure)):
        chosen = sure + [each for bit, each in enumerate(unsure) if mask >> bit & 1]
        for order in permutations(chosen):
            if any(
                later.answered < earlier.asked
                for place, earlier in enumerate(order)
                for later in order[place + 1 :]
            ):
                continue
            state: Any = None
            try:
                for each in order:
                    state = register(state, each)
            except Impossible:
                continue
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    value = st.integers(0, 2)
    made = []
    for _ in range(draw(st.integers(0, 5))):
        asked = draw(st.integers(0, 8))
        answered = draw(st.one_of(st.just(NEVER), st.integers(asked, 10)))
        kind = draw(st.sampled_from(["read", "write", "cas"]))
        if kind == "read":
            made.append(op(asked, answered, kind, answer=draw(st.one_of(st.none(), value))))
        elif kind == "write":
            made.append(op(asked, answered, kind, draw(value)))
        else:
            made.append(
                op(asked, answered, kind, draw(value), draw(value), answer=draw(st.booleans()))
            )
    return made


class LinearizabilityTests(SynchronousTestCase):
    def check(self, *history: Operation) -> bool:
        return is_linearizable(history, None, register)

    def test_empty(self) -> None:
        """Nothing happened, and nothing is wrong with that."""
        self.assertTrue(self.check())

    def test_stale_read(self) -> None:
        """A read after a write sees it; one beside it may or may not."""
        write = op(1, 5, "write", 1)
        self.assertTrue(self.check(write, op(2, 3, "read"), op(3.5, 6, "read", answer=1)))
        self.assertFalse(self.check(write, op(6, 7, "read")))

    def test_back_in_time(self) -> None:
        """Once a read has seen a write, later ones see it too, even beside the write."""
        write = op(1, 9, "write", 1)
        self.assertFalse(self.check(write, op(2, 3, "read", answer=1), op(4, 5, "read")))

    def test_unheard(self) -> None:
        """A write without an answer may happen late, or never, but not before it was asked."""
        write = op(3, NEVER, "write", 1)
        self.assertTrue(self.check(write, op(4, 5, "read"), op(8, 9, "read", answer=1)))
        self.assertTrue(self.check(write, op(4, 5, "read")))
        self.assertFalse(self.check(write, op(1, 2, "read", answer=1)))

    def test_compare_and_set(self) -> None:
        """Of two that compare with the same value only one wins."""
        write = op(0, 1, "write", 1)
        won = op(2, 5, "cas", 1, 2, answer=True)
        self.assertTrue(self.check(write, won, op(3, 4, "cas", 1, 3, answer=False)))
        self.assertFalse(self.check(write, won, op(3, 4, "cas", 1, 3, answer=True)))

    @settings(max_examples=300, deadline=None)
    @given(histories())
    def test_against_the_definition(self, history: list[Operation]) -> None:
        """Trying all orders gives the same verdict."""
        self.assertEqual(is_linearizable(history, None, register), by_trial(history))

    def test_recorded(self) -> None:
        """Histories recorded from early etcd get the verdicts that are known for them."""
        if not RECORDED.is_dir():
            raise SkipTest("no recorded histories beside the project")
        verdicts = json.loads((RECORDED / "verdicts.json").read_text())
        self.assertGreater(len(verdicts), 50)
        for name, verdict in verdicts.items():
            history = recorded((RECORDED / name).read_text())
            self.assertEqual(is_linearizable(history, None, register), verdict, name)


def recorded(log: str) -> list[Operation]:
    """The operations of a Jepsen log; its lines are its clock."""
    history: list[Operation] = []
    open_calls: dict[str, tuple[int, tuple[object, ...]]] = {}
    for moment, line in enumerate(log.splitlines()):
        found = _LINE.match(line)
        if found is None:
            continue
        process, outcome, kind, rest = found.groups()
        if outcome == ":invoke":
            values = [int(each) for each in re.findall(r"\d+", rest or "")]
            request = (kind[1:], *(values if kind != ":read" else ()))
            open_calls[process] = moment, request
        elif outcome == ":ok":
            asked, request = open_calls.pop(process)
            answer: object = True if kind == ":cas" else None
            if kind == ":read":
                answer = None if rest == "nil" else int(rest)
            history.append(Operation(asked, moment, request, answer))
        elif outcome == ":fail":
            asked, request = open_calls.pop(process)
            if request[0] == "cas":  # it compared with something else
                history.append(Operation(asked, moment, request, False))
        # Otherwise nothing is known.
    history += [Operation(asked, NEVER, request) for asked, request in open_calls.values()]
    return history
