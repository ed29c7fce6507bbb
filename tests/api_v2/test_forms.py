"""Forms as Go reads them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v2.forms import form_of
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
