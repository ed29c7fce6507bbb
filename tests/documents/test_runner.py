"""What the outcomes of steps make of rows, and the scoreboard that they give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tests.documents.case import Row, Scenario, Step
from tests.documents.expectations import Unmet, check
from tests.documents.pages import anchors
from tests.documents.runner import ABSENT, FAILED, PASSED, Outcome, perform
from tests.documents.scoreboard import merge, table


def step(text: str, *rows: str, **said: Any) -> Step:
    return Step("infra0", "run", text, rows, **said)


class Stage:
    """Steps called ``bad`` fail; the others are noted."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def act(self, step: Step) -> None:
        if step.text == "bad":
            raise Unmet("it is bad")
        self.done.append(step.text)


def outcomes(*steps: Step, server: str = "etcdtw") -> tuple[Mapping[str, Outcome], list[str]]:
    stage = Stage()
    scenario = Scenario("Some", "part", "about", 1, {}, steps)
    return perform(cast(Any, stage), scenario, server), stage.done


class OutcomeTests(SynchronousTestCase):
    def test_first_failure_decides(self) -> None:
        """A row fails with the first of its steps that does, whatever comes before and after."""
        found, _ = outcomes(step("bad", "A"), step("good", "A", "B"), step("bad", "B"))
        self.assertEqual(found["A"], Outcome(FAILED, "it is bad"))
        self.assertEqual(found["B"], Outcome(FAILED, "it is bad"))

    def test_all_hold(self) -> None:
        """A row holds if all its steps do."""
        found, _ = outcomes(step("good", "A"), step("bad", "B"), step("good", "A"))
        self.assertEqual(found["A"], Outcome(PASSED))

    def test_needed(self) -> None:
        """Nothing is done after a needed step that failed; what came before stays as it was."""
        found, done = outcomes(step("one", "A"), step("bad", needed=True), step("two", "B"))
        self.assertEqual(done, ["one"])
        self.assertEqual(found["A"], Outcome(PASSED))
        self.assertEqual(found["B"], Outcome(FAILED, "not reached: it is bad"))

    def test_for_another_server(self) -> None:
        """Steps for another server are left out; a row that has no others is no question."""
        mine = step("mine", "A", only="etcdtw")
        found, done = outcomes(mine, step("all", "B"), server="etcd-3.5.1")
        self.assertEqual(done, ["all"])
        self.assertEqual(found["A"].verdict, ABSENT)
        self.assertEqual(found["B"], Outcome(PASSED))

    def test_expectations(self) -> None:
        """Parts, patterns, the last line and the exit code all have to be as expected."""
        check(step("x", says=("a",), says_not=("z",), matches=("^b$",), last="b"), 0, "a\nb\n")
        for wrong, code, said in (
            (step("x", says=("a",)), 0, "b"),
            (step("x", says_not=("b",)), 0, "b"),
            (step("x", matches=("^a$",)), 0, "ab"),
            (step("x", last="a"), 0, "a\nb"),
            (step("x"), 1, ""),
            (step("x"), None, ""),
        ):
            self.assertRaises(Unmet, check, wrong, code, said)


class BoardTests(SynchronousTestCase):
    def test_worst_counts(self) -> None:
        """A row of several scenarios is as good as in the worst of them."""
        bad = Outcome(FAILED, "why")
        found = merge([{"A": Outcome(PASSED)}, {"A": bad, "B": Outcome(PASSED)}])
        self.assertEqual(found, {"A": bad, "B": Outcome(PASSED)})

    def test_table(self) -> None:
        """Verdicts side by side, and what was seen where one failed."""
        rows = {"A": Row("A", "works", decided="as the guide says")}
        board = table(rows, {"x": {"A": Outcome(PASSED)}, "y": {"A": Outcome(FAILED, "a|b")}})
        self.assertIn("| A | works | pass | **fail** | as the guide says |", board)
        self.assertIn("* A, y: `` a\\|b ``", board)

    def test_anchors(self) -> None:
        """Headings as forges make anchors of them, and those that are written out."""
        found = anchors('# When `x` fails\n```\n# no heading\n```\n<a id="--name"></a>\n## 静态\n')
        self.assertEqual(found, {"when-x-fails", "--name", "静态"})
