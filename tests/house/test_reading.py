"""What a reader of the source may expect: documented modules of bearable length."""

from __future__ import annotations

import ast
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.house.source import HAND_WRITTEN, ROOT, modules, parsed, relative

LINES_MAX = 600
TEXT_SUFFIXES = {".py", ".md", ".toml", ".cfg", ".txt", ".proto", ".yml", ".yaml", ".sh", ""}
# Spelled so that this file does not match itself.
PLACES = "|".join(f"/{name}/" for name in ("work", "farm", "root"))
NAMES = "cl[a]ude|anthr[o]pic|sub[a]gent|chat[g]pt|co[p]ilot"
FOREIGN_WORDS = re.compile(rf"(?<![\w.])(?:{PLACES})|\b(?:{NAMES})", re.IGNORECASE)


class ReadingTests(SynchronousTestCase):
    def test_modules_say_what_they_are(self) -> None:
        """Every module that is not empty has a docstring."""
        silent = [
            relative(path)
            for path in modules("etcdtw", "tests", "benchmarks", "twisted")
            if parsed(path).body and not ast.get_docstring(parsed(path))
        ]
        self.assertEqual(silent, [])

    def test_tests_name_their_rule(self) -> None:
        """Every test method has a docstring that names what it checks."""
        silent = [
            f"{relative(path)}:{node.lineno} {node.name}"
            for path in modules("tests")
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ]
        self.assertEqual(silent, [])

    def test_modules_are_short(self) -> None:
        """No hand-written module has grown past the limit."""
        long = {
            relative(path): lines
            for path in modules("etcdtw", "tests", "benchmarks", "twisted")
            if (lines := len(path.read_text().splitlines())) > LINES_MAX
        }
        self.assertEqual(long, {})

    def test_the_project_speaks_of_itself_alone(self) -> None:
        """No file tells where or with which tools somebody wrote it."""
        # ``.git`` is a file where the checkout is a worktree of another one.
        files = [
            p
            for p in ROOT.iterdir()
            if p.is_file() and p.suffix in TEXT_SUFFIXES and p.name != ".git"
        ]
        for folder in HAND_WRITTEN:
            files += [
                p
                for p in (ROOT / folder).rglob("*")
                if p.is_file() and p.suffix in TEXT_SUFFIXES and "vectors" not in p.parts
            ]
        found = [
            f"{relative(path)}:{number} {line.strip()[:80]}"
            for path in files
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
            if FOREIGN_WORDS.search(line)
        ]
        self.assertEqual(found, [])
