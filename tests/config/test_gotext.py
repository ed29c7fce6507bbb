"""Go's text forms of numbers, truth values and durations."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.gotext import parse_bool, parse_duration, parse_integer, quote


class IntegerTests(SynchronousTestCase):
    def test_literals(self) -> None:
        """Go's integer literals are read: decimal, 0x, 0b, 0o, leading 0, underscores, sign."""
        for text, value in {
            "0": 0,
            "100": 100,
            "1_000": 1000,
            "0x10": 16,
            "0X_ff": 255,
            "0b101": 5,
            "0o17": 15,
            "017": 15,
            "-12": -12,
            "+7": 7,
        }.items():
            self.assertEqual(parse_integer(text, -100, 10_000), value, text)

    def test_refused(self) -> None:
        """Anything else is a parse error, a number outside the limits is out of range."""
        for text in ("", "abc", "1x", " 1", "1 ", "_1", "1__0", "08", "0x", "1.5", "٣"):
            error = self.assertRaises(ValueError, parse_integer, text, 0, 10)
            self.assertEqual(str(error), "parse error", text)
        for text in ("-1", "+1"):
            error = self.assertRaises(ValueError, parse_integer, text, 0, 10)
            self.assertEqual(str(error), "parse error", "an unsigned flag takes no sign")
        error = self.assertRaises(ValueError, parse_integer, "11", 0, 10)
        self.assertEqual(str(error), "value out of range")

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.integers(-(1 << 63), (1 << 63) - 1))
    def test_every_number(self, number: int) -> None:
        """What Go prints for a number, decimal or hexadecimal, gives the number."""
        low, high = -(1 << 63), (1 << 63) - 1
        self.assertEqual(parse_integer(str(number), low, high), number)
        self.assertEqual(parse_integer(hex(number), low, high), number)


class BoolTests(SynchronousTestCase):
    def test_words(self) -> None:
        """Exactly Go's twelve words are truth values."""
        for word in ("1", "t", "T", "TRUE", "true", "True"):
            self.assertIs(parse_bool(word), True)
            self.assertRaises(ValueError, parse_bool, word + " ")
        for word in ("0", "f", "F", "FALSE", "false", "False"):
            self.assertIs(parse_bool(word), False)
        for word in ("", "yes", "on", "tRUE"):
            self.assertRaises(ValueError, parse_bool, word)


class DurationTests(SynchronousTestCase):
    def test_durations(self) -> None:
        """Units may be combined, fractions and signs are allowed, only 0 needs no unit."""
        for text, nanoseconds in {
            "0": 0,
            "0s": 0,
            "5s": 5_000_000_000,
            "1h30m": 5_400_000_000_000,
            "1.5s": 1_500_000_000,
            "-2ms": -2_000_000,
            ".5us": 500,
            "3µs": 3000,
            "7ns": 7,
        }.items():
            self.assertEqual(parse_duration(text), nanoseconds, text)

    def test_refused(self) -> None:
        """The three refusals have Go's words."""
        for text, words in {
            "": 'time: invalid duration ""',
            "abc": 'time: invalid duration "abc"',
            ".s": 'time: invalid duration ".s"',
            "5": 'time: missing unit in duration "5"',
            "1x": 'time: unknown unit "x" in duration "1x"',
            "9999999h": 'time: invalid duration "9999999h"',
        }.items():
            self.assertEqual(str(self.assertRaises(ValueError, parse_duration, text)), words)


class QuoteTests(SynchronousTestCase):
    def test_quotes(self) -> None:
        """Quotes and control characters are escaped, other letters stay."""
        self.assertEqual(quote('a"b\né'), '"a\\"b\\né"')
