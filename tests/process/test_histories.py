"""What is judged of recorded histories is judged as if all of it were."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.testing.linearizability import NEVER, Operation, is_linearizable
from tests.process.histories import register, settled

MANY = 400


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Puts of values of their own, half of them unanswered, and reads of any of them."""
    made = []
    count = draw(st.integers(0, 4))
    for number in range(count):
        asked = draw(st.integers(0, 6))
        answered = draw(st.sampled_from((NEVER, asked + draw(st.integers(0, 4)))))
        made.append(Operation(asked, answered, ("put", b"%d" % number)))
    values = st.sampled_from([b"", *(b"%d" % number for number in range(count))])
    for _ in range(draw(st.integers(0, 4))):
        asked = draw(st.integers(0, 9))
        made.append(Operation(asked, asked + draw(st.integers(0, 3)), ("get",), draw(values)))
    return made


class SettledTests(SynchronousTestCase):
    @settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(histories())
    def test_same_verdict(self, history: list[Operation]) -> None:
        """Puts that nobody heard of again change nothing."""
        whole = is_linearizable(history, b"", register)
        self.assertEqual(is_linearizable(settled(history), b"", register), whole, history)

    def test_many_unanswered(self) -> None:
        """Hundreds of them cost no time, and hide no contradiction."""
        history = [Operation(each, NEVER, ("put", b"%d" % each)) for each in range(MANY)]
        history += [
            Operation(each + 0.5, each + 0.7, ("get",), b"%d" % (each - each % 20))
            for each in range(MANY)
        ]
        self.assertTrue(is_linearizable(settled(history), b"", register))
        history.append(Operation(MANY, MANY + 1, ("get",), b"0"))
        self.assertFalse(is_linearizable(settled(history), b"", register))
