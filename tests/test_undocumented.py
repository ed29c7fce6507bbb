"""Modules that are loaded without the docstrings of their functions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.undocumented import without_docstrings

SOURCE = '''
"""module"""
class Told(Exception):
    """class"""
    def method(self):
        """method"""
        def inner():
            """inner"""
            return "within"
        return inner
    async def waits(self):
        """waits"""
def documented(word="default"):
    """documented"""
    return word
def says_its_docstring():
    """said"""
    return "said"
def plain():
    return "plain"
def yields():
    """yields"""
    yield "yielded"
nameless = lambda: "nameless"
listed = ["listed" for _ in (1,)]
mapped = {"key": "value" for _ in (1,)}
'''


def run_without(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(without_docstrings(compile(source, "source", "exec")), names)
    return names


class WithoutDocstringsTests(SynchronousTestCase):
    def test_functions(self) -> None:
        """Functions, methods and those within them have none; all of them do what they did."""
        names = run_without(SOURCE)
        told = names["Told"]()
        inner = told.method()
        for function in (told.method, told.waits, inner, names["documented"], names["yields"]):
            self.assertIsNone(function.__doc__, function.__name__)
        self.assertEqual(inner(), "within")
        self.assertEqual(names["documented"](), "default")
        self.assertEqual(list(names["yields"]()), ["yielded"])

    def test_classes_and_modules(self) -> None:
        """Theirs stay: errors and commands print them."""
        names = run_without(SOURCE)
        self.assertEqual(names["__doc__"], "module")
        self.assertEqual(names["Told"].__doc__, "class")

    def test_constants(self) -> None:
        """First constants that are no docstrings stay, and a docstring that is used besides."""
        names = run_without(SOURCE)
        self.assertEqual(names["plain"](), "plain")
        self.assertEqual(names["nameless"](), "nameless")
        self.assertEqual(names["listed"], ["listed"])
        self.assertEqual(names["mapped"], {"key": "value"})
        self.assertEqual(names["says_its_docstring"](), "said")

    def test_nothing_to_do(self) -> None:
        """Code without docstrings is the same object."""
        code = compile("def plain(): return 1\nresult = plain()", "source", "exec")
        self.assertIs(without_docstrings(code), code)

    def test_everything_else_stays(self) -> None:
        """Bytecode, line numbers and other constants of real modules are what they were."""
        for name in ("replica/replica.py", "http2/connection.py", "mvcc/store.py"):
            path = Path(__file__).parents[1] / "etcdtw" / name
            code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
            self.compare(code, without_docstrings(code))

    def compare(self, before: CodeType, after: CodeType) -> None:
        self.assertEqual(before.co_code, after.co_code)
        self.assertEqual(list(before.co_lines()), list(after.co_lines()))
        self.assertEqual(len(before.co_consts), len(after.co_consts))
        for place, (old, new) in enumerate(zip(before.co_consts, after.co_consts, strict=True)):
            if isinstance(old, CodeType):
                self.compare(old, new)
            elif new is None and old is not None:
                self.assertEqual(place, 0)
                self.assertIsInstance(old, str)
            else:
                self.assertEqual(old, new)


class LoadUndocumentedTests(SynchronousTestCase):
    def test_imports(self) -> None:
        """Modules that are imported afterwards have none, of the standard library or others;
        their tracebacks show their lines; extensions and packages are found as ever."""
        code = (
            "from etcdtw.undocumented import load_undocumented\n"
            "load_undocumented()\n"
            "import base64, lmdb, twisted.internet.defer, twisted.internet.error\n"
            "print(base64.b64encode.__doc__, twisted.internet.defer.succeed.__doc__)\n"
            "print(str(twisted.internet.error.ConnectionRefusedError()))\n"
            "import traceback\n"
            "try: base64.b64decode(1)\n"
            "except TypeError: print('def _bytes_from_decode_data' in traceback.format_exc(),"
            " 'b64decode' in traceback.format_exc())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=30,
        )
        expected = "None None\nConnection was refused by other side.\nFalse True\n"
        self.assertEqual((done.stdout, done.stderr), (expected, ""))
