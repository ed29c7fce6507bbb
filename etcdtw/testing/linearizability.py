"""Is a history of concurrent operations linearizable?

A history is, if every operation can be given one moment between its request and its answer such
that, done one after the other in that order, each gives the answer that it gave (Herlihy and Wing,
1990). The search is that of Wing and Gong (1993), depth first, with Lowe's memory (2017) of what
was reached before: the set of operations done, and the state they led to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

NEVER: Final = math.inf
"""When an operation was answered whose answer nobody heard. It may have taken effect at any moment
after its request, or not at all."""


class Operation(NamedTuple):
    """``asked`` and ``answered`` are moments on one clock, of any unit. ``answer`` has no meaning
    where ``answered`` is NEVER."""

    asked: float
    answered: float
    request: Any
    answer: Any = None


class Impossible(Exception):
    """An operation cannot give its answer in this state."""


Step = Callable[[Any, Operation], Hashable]
"""The state after an operation in a state; raises Impossible where its answer does not fit. What
an operation without an answer would have said always fits."""


def is_linearizable(history: Sequence[Operation], state: Hashable, step: Step) -> bool:
    """Whether ``history``, in any order, can have happened to something that began in ``state``.

    Worst case exponential in the number of operations that overlap; a history of a register with a
    handful of clients takes time in proportion to its length.
    """
    head = _chain(history)
    missing = sum(each.answered != NEVER for each in history)
    done = 0
    seen: set[tuple[int, Hashable]] = set()
    taken: list[tuple[_Event, Hashable]] = []
    event = head.next
    while missing:
        if event is not None and event.answer is not None:  # a request: take it next, if possible
            reached = _after(state, event.operation, step)
            key = (done | event.bit, reached)
            if reached is not _NOWHERE and key not in seen:
                seen.add(key)
                taken.append((event, state))
                done, state = key
                missing -= event.operation.answered != NEVER
                event.take_out()
                event = head.next
            else:
                event = event.next
        elif not taken:
            return False
        else:  # an answer whose request was not taken: the one taken last was wrong
            event, state = taken.pop()
            done &= ~event.bit
            missing += event.operation.answered != NEVER
            event.put_back()
            event = event.next
    return True


class _Event:
    """A request, whose ``answer`` is another event, or an answer, in the order of time."""

    __slots__ = ("answer", "bit", "next", "operation", "previous")

    def __init__(self, operation: Operation, bit: int, answer: _Event | None) -> None:
        self.operation = operation
        self.bit = bit
        self.answer = answer
        self.previous: _Event | None = None
        self.next: _Event | None = None

    def take_out(self) -> None:
        assert self.answer is not None, "only requests are taken"
        self._unlink()
        self.answer._unlink()

    def put_back(self) -> None:
        assert self.answer is not None, "only requests are taken"
        self.answer._link()
        self._link()

    def _unlink(self) -> None:
        assert self.previous is not None, "the head stays"
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def _link(self) -> None:
        assert self.previous is not None, "the head stays"
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def _chain(history: Sequence[Operation]) -> _Event:
    """All requests and answers behind a head. Of two at the same moment the request is first,
    which lets more pass."""
    timed: list[tuple[float, int, int, _Event]] = []
    for number, operation in enumerate(history):
        answer = _Event(operation, 1 << number, None)
        request = _Event(operation, 1 << number, answer)
        timed.append((operation.asked, 0, number, request))
        timed.append((operation.answered, 1, number, answer))
    head = last = _Event(Operation(-NEVER, -NEVER, None), 0, None)
    for *_, event in sorted(timed, key=lambda each: each[:3]):
        event.previous, last.next = last, event
        last = event
    return head


_NOWHERE: Final = object()


def _after(state: Hashable, operation: Operation, step: Step) -> Hashable:
    try:
        return step(state, operation)
    except Impossible:
        return _NOWHERE
