"""Which client bytes may go into the log as they are."""

from __future__ import annotations

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.canonical import canonical, single_key_range
from etcdtw.apply.plain_put import plain_put
from etcdtw.errors import Code, StatusError, TooManyOps
from etcdtw.pb.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)

PUT = PutRequest(key=b"k", value=b"v" * 200, lease=-3, prev_kv=True)
TXN = TxnRequest(
    compare=[Compare(key=b"a", range_end=b"b", target=Compare.VALUE, value=b"")],
    success=[
        RequestOp(request_put=PUT),
        RequestOp(
            request_txn=TxnRequest(failure=[RequestOp(request_range=RangeRequest(key=b"x"))])
        ),
    ],
)
UNKNOWN = b"\xa2\x06\x03abc"


class CanonicalTests(SynchronousTestCase):
    """``canonical``."""

    def assert_replaced(self, message: Message, raw: bytes) -> None:
        """``raw`` means ``message``, but other bytes go into the log."""
        request, encoded = canonical(type(message), raw)
        self.assertEqual(request, message)
        self.assertEqual(encoded, message.SerializeToString(deterministic=True))
        self.assertNotEqual(encoded, raw)

    def test_kept(self) -> None:
        """Bytes as every ordinary client writes them are embedded, the very same object."""
        for message in (PUT, TXN, PutRequest(), RangeRequest(key=b"a", range_end=b"\0", limit=9)):
            raw = message.SerializeToString(deterministic=True)
            request, encoded = canonical(type(message), raw)
            self.assertEqual(request, message)
            self.assertIs(encoded, raw)

    def test_replaced(self) -> None:
        """Unknown fields, also nested ones, long varints, zeros, other orders and repetitions are
        written anew."""
        self.assert_replaced(PutRequest(key=b"k"), b"\x0a\x01k" + UNKNOWN)
        self.assert_replaced(PutRequest(key=b"k"), b"\x0a\x81\x00k")
        self.assert_replaced(PutRequest(key=b"k"), b"\x0a\x01k\x12\x00")
        self.assert_replaced(PutRequest(key=b"k"), b"\x0a\x01k\x18\x00")
        self.assert_replaced(PutRequest(key=b"k", prev_kv=True), b"\x0a\x01k\x20\x02")
        self.assert_replaced(PutRequest(key=b"k", value=b"v"), b"\x12\x01v\x0a\x01k")
        self.assert_replaced(PutRequest(key=b"k"), b"\x0a\x01j\x0a\x01k")
        operation = RequestOp(request_put=PutRequest(key=b"k"))
        inner = b"\x0a\x01k" + UNKNOWN
        raw = bytes((0x12, len(inner) + 2, 0x12, len(inner))) + inner
        self.assert_replaced(TxnRequest(success=[operation]), raw)

    def refusal(self, request_class: type[Message], raw: bytes) -> str:
        error = self.assertRaises(StatusError, canonical, request_class, raw)
        self.assertEqual(error.code, Code.INTERNAL)
        return str(error).removeprefix("grpc: error unmarshalling request: ")

    def test_wrong_wire_types(self) -> None:
        """A known field with a wrong wire type, of which real members die or disagree, is refused
        in grpc-go's words; nested ones too (both texts seen on 3.5.1)."""
        self.assertEqual(
            self.refusal(DeleteRangeRequest, b"\x0a\x01k\x1a\x01\x01"),
            "proto: wrong wireType = 2 for field PrevKv",
        )
        self.assertEqual(
            self.refusal(TxnRequest, b"\x12\x04\x0a\x02\x08\x01"),
            "proto: wrong wireType = 0 for field Key",
        )

    def test_not_a_message(self) -> None:
        """Bytes that end too soon are refused in grpc-go's words."""
        self.assertEqual(self.refusal(PutRequest, b"\x0a\x05k"), "unexpected EOF")

    def test_too_deep(self) -> None:
        """Transactions too deep inside each other to be decoded have too many operations, like all
        that are deeper than they may be."""
        for depth in (48, 60, 120, 1000):
            request = inner = TxnRequest()
            for _ in range(depth):
                inner = inner.success.add().request_txn
            raw = request.SerializeToString()
            if depth < 50:
                self.assertEqual(canonical(TxnRequest, raw)[1], raw)
            else:
                self.assertRaises(TooManyOps, canonical, TxnRequest, raw)

    def test_any_bytes(self) -> None:
        """Whatever the bytes, what goes into the log is canonical and means the request."""

        @settings(max_examples=300, deadline=None, derandomize=True)
        @given(st.sampled_from((PUT, TXN)), st.data())
        def check(message: Message, data: st.DataObject) -> None:
            raw = bytearray(message.SerializeToString(deterministic=True))
            for _ in range(data.draw(st.integers(0, 3))):
                place = data.draw(st.integers(0, len(raw) - 1))
                raw[place : place + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
                if not raw:
                    return
            try:
                request, encoded = canonical(type(message), bytes(raw))
            except StatusError:
                return
            again = type(message).FromString(encoded)
            self.assertEqual(again, request)
            again.DiscardUnknownFields()
            self.assertEqual(again.SerializeToString(deterministic=True), encoded)

        check()


class PlainPutTests(SynchronousTestCase):
    """``plain_put``."""

    def test_like_decoding(self) -> None:
        """It recognises a request with key and value alone, below its bounds, and only that."""
        sizes = st.sampled_from((0, 1, 2, 126, 127, 128, 129, 130, 16382, 16383, 16384, 16385))

        @settings(max_examples=300, deadline=None, derandomize=True)
        @given(sizes, sizes, st.sampled_from((0, 0, 0, 1, -1)), st.sampled_from((0, 0, 0, 1, 2, 4)))
        def check(key_bytes: int, value_bytes: int, lease: int, flags: int) -> None:
            request = PutRequest(
                key=b"k" * key_bytes,
                value=b"v" * value_bytes,
                lease=lease,
                prev_kv=bool(flags & 1),
                ignore_value=bool(flags & 2),
                ignore_lease=bool(flags & 4),
            )
            got = plain_put(request.SerializeToString())
            if 0 < key_bytes < 128 and 0 < value_bytes < 16384 and not lease and not flags:
                self.assertEqual(got, (request.key, request.value))
            else:
                self.assertIsNone(got)

        check()

    def test_any_bytes(self) -> None:
        """Whatever the bytes, those that it recognises are canonical and mean what it says."""
        piece = st.one_of(
            st.sampled_from(
                (b"\x0a", b"\x12", b"\x18", b"\x01", b"\x03", b"\x80\x01", b"\x81\x00")
            ),
            st.binary(max_size=4),
            st.just(b"v" * 128),
        )
        pieces = st.one_of(
            st.lists(piece, max_size=8),
            st.tuples(st.just(b"\x0a\x01k\x12"), piece, piece, piece),
        )

        @settings(max_examples=1000, deadline=None, derandomize=True)
        @given(pieces.map(b"".join))
        def check(raw: bytes) -> None:
            got = plain_put(raw)
            if got is not None:
                request, encoded = canonical(PutRequest, raw)
                self.assertIs(encoded, raw)
                self.assertEqual(request, PutRequest(key=got[0], value=got[1]))
                self.assertTrue(all(got))

        check()

    def test_one_byte_changed(self) -> None:
        """Of the requests for a key and a value of one byte each, with any one byte changed, it
        takes those alone that are still such a request."""
        plain = PutRequest(key=b"k", value=b"v").SerializeToString()
        for place in range(len(plain)):
            for byte in range(256):
                raw = plain[:place] + bytes((byte,)) + plain[place + 1 :]
                got = plain_put(raw)
                self.assertEqual(got is not None, raw == plain or place in (2, 5))


class SingleKeyTests(SynchronousTestCase):
    """``single_key_range``."""

    def test_like_decoding(self) -> None:
        """It recognises a request for one key and nothing else, and only that."""

        @settings(max_examples=300, deadline=None, derandomize=True)
        @given(
            st.binary(max_size=140),
            st.binary(max_size=1),
            st.integers(0, 1),
            st.booleans(),
            st.booleans(),
        )
        def check(key: bytes, end: bytes, limit: int, serializable: bool, keys_only: bool) -> None:
            request = RangeRequest(
                key=key,
                range_end=end,
                limit=limit,
                serializable=serializable,
                keys_only=keys_only,
            )
            got = single_key_range(request.SerializeToString())
            if got is None:
                plain = not (end or limit or keys_only)
                self.assertFalse(plain and 0 < len(key) < 126)
            else:
                self.assertEqual(RangeRequest(key=got[0], serializable=got[1]), request)

        check()

    def test_foreign_bytes(self) -> None:
        """A key may end like the serializable flag."""
        raw = RangeRequest(key=b"k\x38\x01").SerializeToString()
        self.assertEqual(single_key_range(raw), (b"k\x38\x01", False))
        self.assertIsNone(single_key_range(b""))
        self.assertIsNone(single_key_range(b"\x0a\x05k"))
