"""Which test proves which row: ``python -m tests.house.rows > docs/reference/rows.md``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.documents.case import Row, linked_rows, rows, scenarios
from tests.house.source import modules, parsed, relative

_ID = re.compile(r"\b(?:CL23-\d|(?:OV|ST|TS|TA|ER|DI|DN|GP|GW|ZH|RC|SE|TL|DP|PX)\d+)\b")


def proofs() -> dict[str, list[str]]:
    """The tests of each row: those whose docstring or name has its id, and the scenarios."""
    found: dict[str, list[str]] = {}
    for scenario in scenarios():
        for row in scenario.rows:
            found.setdefault(row, []).append(f"tests/documents {scenario.name}")
    for path in modules("tests"):
        for name, said in _tests(parsed(path)):
            for row in dict.fromkeys(_ID.findall(said)):
                found.setdefault(row, []).append(f"{relative(path)}::{name}")
    return found


def _tests(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Names of test cases and test methods, with all that they say of themselves."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and _has_tests(node):
            yield node.name, ast.get_docstring(node) or ""
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_test(node):
            yield node.name, f"{node.name.removeprefix('test_')} {ast.get_docstring(node) or ''}"


def _has_tests(node: ast.ClassDef) -> bool:
    return any(_is_test(each) for each in node.body)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
        "test_"
    )


def index_page() -> str:
    """``docs/reference/rows.md``."""
    proved = proofs()
    lines = [
        "# Rows and tests",
        "",
        "What etcd's clustering guide, its gateway page and the pages that these link to promise,",
        "and the tests of each statement. Made from `tests/documents/rows.yaml` and the tests by",
        "`python -m tests.house.rows`; do not edit by hand. The first part's scenarios are in",
        "`tests/documents/scenarios`; how etcd itself does with them is on the",
        "[scoreboard](../scoreboard.md).",
    ]
    for title, those in (("The documents", rows()), ("The pages that they link to", linked_rows())):
        lines += ["", f"## {title}", "", "| row | what | tests |", "|---|---|---|"]
        lines += [_line(row, proved.get(row.name, [])) for row in those.values()]
    return "\n".join(lines) + "\n"


def _line(row: Row, tests: list[str]) -> str:
    what = row.what.replace("|", "\\|")
    return f"| {row.name} | {what} | {', '.join(f'`{each}`' for each in tests)} |"


if __name__ == "__main__":
    print(index_page(), end="")
