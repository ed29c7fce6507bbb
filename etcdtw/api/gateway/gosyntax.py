"""What Go's ``encoding/json`` says of text that is not JSON: the JSON gateway's clients see it."""

from __future__ import annotations

from typing import NoReturn

DEPTH_MAX = 10_000
EOF_TEXT = "unexpected EOF"

_BLANKS = " \t\r\n"
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPES = frozenset('bfnrt\\/"')
_DIGITS = frozenset("0123456789")


def syntax_error(data: bytes) -> str:
    """The complaint about the first JSON value in ``data``, which a parser has refused."""
    scan = _Scan(data.decode("latin-1"))  # Go looks at bytes
    try:
        scan.value()
    except _Complaint as complaint:
        return str(complaint)
    return EOF_TEXT


def after_top_level(data: bytes) -> str:
    """The complaint about a text that has something behind its one value, or no value."""
    scan = _Scan(data.decode("latin-1") + " ")  # how Go finds out whether the text may end
    try:
        scan.value()
        scan.skip_blanks()
        scan.fail("after top-level value")
    except _Complaint as complaint:
        text = str(complaint)
        return "unexpected end of JSON input" if text == EOF_TEXT else text


def quote_char(char: str) -> str:
    """One byte as Go's scanner names it."""
    if char == "'":
        return r"'\''"
    if char == '"':
        return "'\"'"
    short = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    short |= {"\v": r"\v", "\\": r"\\"}
    if char in short:
        return f"'{short[char]}'"
    if char < " " or char == "\x7f":
        return rf"'\x{ord(char):02x}'"
    if "\x80" <= char <= "\xa0" or char == "\xad":
        return rf"'\u{ord(char):04x}'"
    return f"'{char}'"


class _Complaint(Exception):
    """Its text is Go's."""


class _Scan:
    """Goes through one value as Go's state machine does and stops at the first byte that cannot
    be there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._closers: list[str] = []

    def fail(self, where: str) -> NoReturn:
        if self._at >= len(self._text):
            raise _Complaint(EOF_TEXT)
        raise _Complaint(f"invalid character {quote_char(self._text[self._at])} {where}")

    def skip_blanks(self) -> None:
        text = self._text
        while self._at < len(text) and text[self._at] in _BLANKS:
            self._at += 1

    def _next(self) -> str:
        """The character at hand; the empty string at the end."""
        return self._text[self._at : self._at + 1]

    def _next_seen(self) -> str:
        self.skip_blanks()
        return self._next()

    def value(self) -> None:
        """One whole value. Containers are kept on a list, for their depth is the sender's."""
        while True:
            char = self._next_seen()
            if char and char in "{[":
                self._at += 1
                self._closers.append("}" if char == "{" else "]")
                if len(self._closers) > DEPTH_MAX:
                    raise _Complaint("exceeded max depth")
                if self._next_seen() != self._closers[-1]:
                    if char == "{":
                        self._key()
                    continue
                self._at += 1
                self._closers.pop()
            else:
                self._scalar(char)
            if not self._ends():
                return

    def _ends(self) -> bool:
        """Behind a value: close what it ends. Whether another value comes."""
        while self._closers:
            char = self._next_seen()
            closer = self._closers[-1]
            if char == ",":
                self._at += 1
                if closer == "}":
                    self._key()
                return True
            if char != closer:
                in_object = closer == "}"
                self.fail("after object key:value pair" if in_object else "after array element")
            self._at += 1
            self._closers.pop()
        return False

    def _key(self) -> None:
        if self._next_seen() != '"':
            self.fail("looking for beginning of object key string")
        self._string()
        if self._next_seen() != ":":
            self.fail("after object key")
        self._at += 1

    def _scalar(self, char: str) -> None:
        if char == '"':
            self._string()
        elif char == "-" or char in _DIGITS:
            self._number()
        elif char and char in "tfn":
            self._literal({"t": "true", "f": "false", "n": "null"}[char])
        else:
            self.fail("looking for beginning of value")

    def _literal(self, word: str) -> None:
        for expected in word:
            if self._next() != expected:
                self.fail(f"in literal {word} (expecting {quote_char(expected)})")
            self._at += 1

    def _string(self) -> None:
        self._at += 1
        while (char := self._next()) != '"':
            if not char or char < " ":
                self.fail("in string literal")
            self._at += 1
            if char == "\\":
                self._escape()
        self._at += 1

    def _escape(self) -> None:
        char = self._next()
        if char == "u":
            self._at += 1
            for _ in range(4):
                if self._next() not in _HEX:
                    self.fail("in \\u hexadecimal character escape")
                self._at += 1
        elif char in _ESCAPES:
            self._at += 1
        else:
            self.fail("in string escape code")

    def _number(self) -> None:
        if self._next() == "-":
            self._at += 1
        if self._next() == "0":
            self._at += 1
        else:
            self._digits("in numeric literal")
        if self._next() == ".":
            self._at += 1
            self._digits("after decimal point in numeric literal")
        if self._next() and self._next() in "eE":
            self._at += 1
            if self._next() and self._next() in "+-":
                self._at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, where: str) -> None:
        if self._next() not in _DIGITS:
            self.fail(where)
        while self._next() in _DIGITS:
            self._at += 1
