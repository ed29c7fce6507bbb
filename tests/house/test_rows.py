"""Every statement of the documents has a test, and the page that says which is current."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.documents.case import all_rows, open_rows, rows, scenarios
from tests.house.rows import index_page, proofs
from tests.house.source import ROOT


class RowTests(SynchronousTestCase):
    def test_every_row_has_a_test(self) -> None:
        """No row is without, but those that are said to be open."""
        known = all_rows().keys()
        self.assertEqual(sorted(known - proofs().keys() - set(open_rows())), [])
        self.assertEqual(sorted(set(open_rows()) - known), [])

    def test_every_row_of_the_documents_is_played(self) -> None:
        """The documents' own rows are all in scenarios, and these name none that is not known."""
        played = {row for scenario in scenarios() for row in scenario.rows}
        self.assertEqual(sorted(rows().keys() - played), [])
        self.assertEqual(sorted(played - all_rows().keys()), [])

    def test_index_is_current(self) -> None:
        """``docs/reference/rows.md`` is what the tests give today."""
        page = ROOT / "docs/reference/rows.md"
        self.assertEqual(
            page.read_text(encoding="utf-8"),
            index_page(),
            "run: python -m tests.house.rows > docs/reference/rows.md",
        )
