"""The table of all rows, one column for each server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.documents.case import Row
from tests.documents.runner import ABSENT, FAILED, PASSED, SKIPPED, Outcome

WORST_FIRST = (FAILED, SKIPPED, PASSED, ABSENT)
Column = Mapping[str, Outcome]


def merge(outcomes: Sequence[Mapping[str, Outcome]]) -> dict[str, Outcome]:
    """A row that is in several scenarios is as good as the worst of them."""
    merged: dict[str, Outcome] = {}
    for each in outcomes:
        for row, outcome in each.items():
            known = merged.get(row, outcome)
            merged[row] = min(known, outcome, key=lambda one: WORST_FIRST.index(one.verdict))
    return merged


def table(rows: Mapping[str, Row], columns: Mapping[str, Column]) -> str:
    """In Markdown: how many of each verdict, then row by row, then why those that failed did."""
    servers = list(columns)
    lines = [f"| | {' | '.join(servers)} |", "|---" * (len(servers) + 1) + "|"]
    for verdict in (PASSED, FAILED, ABSENT, SKIPPED):
        counts = [sum(o.verdict == verdict for o in columns[each].values()) for each in servers]
        if any(counts):
            lines.append(f"| {verdict} | {' | '.join(map(str, counts))} |")
    lines += ["", f"| row | what | {' | '.join(servers)} | where they differ |"]
    lines.append("|---" * (len(servers) + 3) + "|")
    for name, row in rows.items():
        found = [columns[each].get(name, Outcome("-")) for each in servers]
        verdicts = [f"**{o.verdict}**" if o.verdict == FAILED else o.verdict for o in found]
        told = row.decided or next((o.reason for o in found if o.verdict == ABSENT), "")
        lines.append(f"| {name} | {_cell(row.what)} | {' | '.join(verdicts)} | {_cell(told)} |")
    failed = [
        f"* {name}, {each}: `` {_cell(columns[each][name].reason)[:400]} ``"
        for name in rows
        for each in servers
        if name in columns[each] and columns[each][name].verdict == FAILED
    ]
    return "\n".join([*lines, "", *(["What was seen where a row failed:", ""] if failed else []),
                      *failed, ""])  # fmt: skip


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("``", "'")
