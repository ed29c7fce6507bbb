"""Forms as Go reads them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v2.forms import form_of
from etcdtw.api.v2.parsing import _uint
from etcdtw.ids import U64
from etcdtw.v2store import V2Code, V2Error

FORM = b"application/x-www-form-urlencoded"


class FormTests(SynchronousTestCase):
    """V2-1: what etcd 3.4.23 answered to the same."""

    def test_fields(self) -> None:
        """A field may have no value, or come twice, and be anywhere; what is in the body comes
        first, if it is one of a method that has it, and of the right kind."""
        for query, body, expected in (
            (b"", b"", {}),
            (b"recursive", b"", {"recursive": [""]}),
            (b"value=q", b"value=b", {"value": ["b", "q"]}),
            (b"", b"&&value=x&&", {"value": ["x"]}),
            (b"", b"=x&value=a+b%20c%2B=", {"": ["x"], "value": ["a b c+="]}),
            (b"", "value=ü".encode(), {"value": ["ü"]}),
            (b"", b"value=%ff", {"value": ["\ufffd"]}),
        ):
            self.assertEqual(form_of(b"PUT", FORM + b"; charset=utf-8", query, body), expected)
        self.assertEqual(form_of(b"DELETE", FORM, b"a=1", b"value=x"), {"a": ["1"]})
        self.assertEqual(form_of(b"PUT", b"application/json", b"", b"value=x"), {})

    def test_refused(self) -> None:
        """Semicolons, and percent signs that begin no byte."""
        for query, body, cause in (
            (b"a=1;b=2", b"", "invalid semicolon separator in query"),
            (b"", b"value=1;2", "invalid semicolon separator in query"),
            (b"", b"value=100%", 'invalid URL escape "%"'),
            (b"", b"value=a%3", 'invalid URL escape "%3"'),
            (b"%zzz", b"value=1", 'invalid URL escape "%zz"'),
        ):
            refused = self.assertRaises(V2Error, form_of, b"PUT", FORM, query, body)
            self.assertEqual((refused.code, refused.cause), (V2Code.INVALID_FORM, cause))

    def test_numbers(self) -> None:
        """What is no number, or one that no 64 bits hold, of thousands of digits too."""
        for text in ("", "x", "-1", "+1", "1 ", "²", str(1 << 64), "9" * 5000):
            refused = self.assertRaises(V2Error, _uint, {"n": [text]}, "n", V2Code.TTL_NOT_A_NUMBER)
            self.assertEqual(refused.cause, 'invalid value for "n"')
        for text, number in (("0", 0), (str(U64), U64), ("0" * 5000 + "7", 7), ("0" * 30, 0)):
            self.assertEqual(_uint({"n": [text]}, "n", V2Code.TTL_NOT_A_NUMBER), number)
