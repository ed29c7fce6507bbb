"""Records, revisions and varints as bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.keyvalue import (
    KV,
    decode_kv,
    encode_head,
    encode_kv,
    encode_tombstone,
    record_key,
    successor,
    to_chunk,
    unchunk,
    without_value,
)
from etcdtw.mvcc.revision import (
    after,
    backend_key,
    packed,
    parse_backend_key,
    parse_main,
    revision_key,
    tombstone_keys,
)
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import RangeResponse
from etcdtw.varint import signed_varint, varint

REVISIONS = st.integers(1, 2**62) | st.integers(1, 300)
KEYS = st.binary(min_size=1, max_size=5) | st.integers(100, 200).map(lambda n: b"k" * n)
KVS = st.builds(
    KV,
    key=KEYS | st.just(b"k" * 20_000),
    create_revision=REVISIONS,
    mod_revision=REVISIONS,
    version=REVISIONS,
    value=st.binary(max_size=200) | st.just(b"v" * 17_000),
    lease=st.integers(-(2**63), 2**63 - 1) | st.just(0),
)
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def as_protobuf(kv: KV) -> bytes:
    return KeyValue(**kv._asdict()).SerializeToString(deterministic=True)


class RecordTests(SynchronousTestCase):
    """KeyValue records."""

    def test_equal_to_protobuf(self) -> None:
        """A record is byte for byte what protobuf writes, and decodes to what went in."""

        @PROPERTY
        @given(KVS)
        def check(kv: KV) -> None:
            record = encode_kv(kv)
            self.assertEqual(record, as_protobuf(kv))
            self.assertEqual(decode_kv(record), kv)
            self.assertEqual(record_key(record), kv.key)

        check()

    def test_chunk(self) -> None:
        """A chunk is a record as RangeResponse holds it, and gives the record back."""

        @PROPERTY
        @given(KVS)
        def check(kv: KV) -> None:
            record = encode_kv(kv)
            chunk = to_chunk(record)
            self.assertEqual(unchunk(chunk), record)
            self.assertEqual(
                chunk, RangeResponse(kvs=[KeyValue(**kv._asdict())]).SerializeToString()
            )

        check()

    def test_successor(self) -> None:
        """The head of a chunk's record and its version can be taken without decoding it."""

        @PROPERTY
        @given(KVS)
        def check(kv: KV) -> None:
            head, version = successor(to_chunk(encode_kv(kv)), len(kv.key))
            self.assertEqual(head, encode_head(kv.key, kv.create_revision))
            self.assertEqual(version, kv.version)

        check()

    def test_without_value(self) -> None:
        """A chunk without its value is that of the same pair with an empty one."""

        @PROPERTY
        @given(KVS)
        def check(kv: KV) -> None:
            empty = encode_kv(kv._replace(value=b""))
            self.assertEqual(without_value(to_chunk(encode_kv(kv))), to_chunk(empty))

        check()

    def test_tombstone(self) -> None:
        """What is stored for a deletion holds the key alone."""
        self.assertEqual(encode_tombstone(b"abc"), KeyValue(key=b"abc").SerializeToString())
        self.assertEqual(record_key(encode_tombstone(b"k" * 300)), b"k" * 300)


class RevisionTests(SynchronousTestCase):
    """Revisions in memory and in the backend."""

    def test_documented_key(self) -> None:
        """The key of revision 2.0 is etcd's; a deletion's has a t behind it."""
        self.assertEqual(revision_key(2, 0).hex(), "00000000000000025f0000000000000000")
        deleted = [each.hex() for each in tombstone_keys(2, 1, 2)]
        self.assertEqual(deleted[0], "00000000000000025f000000000000000174")
        self.assertEqual(deleted[1], "00000000000000025f000000000000000274")

    def test_packed(self) -> None:
        """A packed revision keeps order and parts, and goes to a backend key and back."""
        parts = st.tuples(st.integers(0, 2**62), st.integers(0, 2**32 - 1), st.booleans())

        @PROPERTY
        @given(parts, parts)
        def check(one: tuple[int, int, bool], other: tuple[int, int, bool]) -> None:
            self.assertEqual(packed(*one) < packed(*other), one < other)
            key = backend_key(packed(*one))
            (deletion,) = tombstone_keys(*one[:2], 1)
            self.assertEqual(key, deletion if one[2] else revision_key(*one[:2]))
            self.assertEqual(parse_backend_key(key), packed(*one))
            self.assertEqual(parse_main(key), one[0])
            self.assertEqual(packed(*one) < after(other[0]), one[0] <= other[0])

        check()


class VarintTests(SynchronousTestCase):
    """Varints by table."""

    def test_like_protobuf(self) -> None:
        """Every number has the varint that protobuf gives it, negative ones included."""

        @PROPERTY
        @given(st.integers(1, 2**63 - 1) | st.sampled_from((127, 128, 16383, 16384, 2**28)))
        def check(value: int) -> None:
            self.assertEqual(b"\x30" + varint(value), KeyValue(lease=value).SerializeToString())
            self.assertEqual(
                b"\x30" + signed_varint(-value), KeyValue(lease=-value).SerializeToString()
            )

        check()
        self.assertEqual(varint(0), b"\0")
