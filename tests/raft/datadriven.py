"""Scripts of directives and expected output, read, compared and rewritten.

``#`` begins a comment. A directive is a line ``name arg key=value key=(a,b)``, input lines if any,
``----``, and the expected output up to a blank line; a doubled ``----`` brackets output that holds
blank lines. Lines of the output that begin with a log level are other people's log sentences and
take no part in the comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SEPARATOR = "----"
_LEVEL = re.compile(r"\s*(DEBUG|INFO|WARN|ERROR|FATAL) ")
_ARGUMENT = re.compile(r"([^\s=()]+)(?:=(\([^)]*\)|\S*))?")


@dataclass
class Directive:
    """``arguments`` are (name, values) in their order; a bare word has no values."""

    line_number: int
    name: str
    arguments: list[tuple[str, list[str]]]
    input_lines: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return [name for name, values in self.arguments if not values]

    def values(self, name: str) -> list[str]:
        """The values of all arguments with this name."""
        return [each for key, values in self.arguments if key == name for each in values]

    def value(self, name: str, default: str) -> str:
        return next(iter(self.values(name)), default)

    def flag(self, name: str) -> bool:
        return self.value(name, "false") == "true"


@dataclass
class Script:
    """``pieces`` are directives and the comment and blank lines between them."""

    path: Path
    pieces: list[str | Directive]

    @classmethod
    def read(cls, path: Path) -> Script:
        lines = iter(enumerate(path.read_text().splitlines(), 1))
        pieces: list[str | Directive] = []
        for number, line in lines:
            if not line.strip() or line.startswith("#"):
                pieces.append(line)
                continue
            directive = _parse_directive(number, line)
            for _, each in lines:
                if each == SEPARATOR:
                    break
                directive.input_lines.append(each)
            directive.expected = _read_expected(lines)
            pieces += [directive, ""]
        return cls(path, pieces)

    def run(self, execute: Callable[[Directive], str], *, rewrite: bool = False) -> list[str]:
        """Execute all directives; a sentence for each whose output is not the expected one.

        With ``rewrite`` the output becomes the expectation in the file instead.
        """
        problems = []
        for piece in self.pieces:
            if isinstance(piece, str):
                continue
            output = execute(piece).rstrip("\n").split("\n")
            if _comparable(output) != _comparable(piece.expected):
                problems.append(
                    f"{self.path.name}:{piece.line_number}: {piece.name}\n"
                    + "\n".join(["--- expected", *piece.expected, "--- got", *output])
                )
            piece.expected = output
        if rewrite and problems:
            self.path.write_text(self._text())
            problems = []
        return problems

    def _text(self) -> str:
        source = self.path.read_text().splitlines()
        lines = []
        for piece in self.pieces:
            if isinstance(piece, str):
                lines.append(piece)
                continue
            bracket = [SEPARATOR] if "" in piece.expected else []
            lines += [source[piece.line_number - 1], *piece.input_lines, SEPARATOR, *bracket]
            lines += piece.expected
            lines += bracket * 2
        return "\n".join(lines).rstrip("\n") + "\n"


def _parse_directive(number: int, line: str) -> Directive:
    name, _, rest = line.partition(" ")
    arguments = []
    for match in _ARGUMENT.finditer(rest):
        value = match[2]
        if value is None:
            values = []
        elif value.startswith("("):
            values = [each.strip() for each in value[1:-1].split(",") if each.strip()]
        else:
            values = [value]
        arguments.append((match[1], values))
    return Directive(number, name, arguments)


def _read_expected(lines: Iterator[tuple[int, str]]) -> list[str]:
    expected: list[str] = []
    bracketed = False
    for _, each in lines:
        if each == SEPARATOR and not expected:
            bracketed = True
        elif bracketed and each == SEPARATOR:
            next(lines)
            next(lines, None)
            break
        elif not bracketed and not each:
            break
        else:
            expected.append(each)
    return expected


def _comparable(lines: list[str]) -> list[str]:
    kept = [each.rstrip() for each in lines if not _LEVEL.match(each)]
    return kept or ["ok"]
