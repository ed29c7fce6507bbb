"""HPACK against the examples of RFC 7541, and against another implementation."""

from __future__ import annotations

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import ProtocolError
from etcdtw.http2 import huffman, limits
from etcdtw.http2.frames import ErrorCode
from etcdtw.http2.header_decoder import HeaderDecoder
from etcdtw.http2.header_encoder import HeaderEncoder
from etcdtw.http2.header_table import STATIC

_quick = settings(max_examples=150, deadline=None, derandomize=True)
_names = st.one_of(
    st.sampled_from([name for name, _ in STATIC[1:]]),
    st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12),
)
_values = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=40)
_fields = st.lists(st.tuples(_names, _values), max_size=12)
_blocks = st.lists(_fields, min_size=1, max_size=8)

_FIRST_REQUESTS = (
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ],
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
)
_COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
_RESPONSES = (
    [
        (":status", "302"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    [
        (":status", "307"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ("location", "https://www.example.com"),
    ],
    [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ("location", "https://www.example.com"),
        ("content-encoding", "gzip"),
        ("set-cookie", _COOKIE),
    ],
)


class RfcExampleTests(SynchronousTestCase):
    """The worked examples of RFC 7541 appendix C, byte for byte."""

    def _check(self, decoder: HeaderDecoder, blocks: tuple[str, ...], expected: object) -> None:
        decoded = tuple(decoder.decode(bytes.fromhex(block)) for block in blocks)
        self.assertEqual(decoded, expected)

    def test_requests_without_huffman(self) -> None:
        """C.3: literals enter the table and are found there by later blocks."""
        blocks = (
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        )
        self._check(HeaderDecoder(), blocks, _FIRST_REQUESTS)

    def test_requests_with_huffman(self) -> None:
        """C.4: the same with Huffman-coded strings."""
        blocks = (
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        )
        self._check(HeaderDecoder(), blocks, _FIRST_REQUESTS)

    def test_responses_without_huffman(self) -> None:
        """C.5: a table of 256 bytes evicts its oldest entries."""
        blocks = (
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a3231"
            "20474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a6970"
            "7738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d61"
            "67653d333630303b2076657273696f6e3d31",
        )
        decoder = HeaderDecoder()
        decoder.decode(bytes.fromhex("3fe101"))  # the table is 256 bytes from here
        self._check(decoder, blocks, _RESPONSES)

    def test_responses_with_huffman(self) -> None:
        """C.6: the same with Huffman-coded strings."""
        blocks = (
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17"
            "1863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6"
            "c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        )
        decoder = HeaderDecoder()
        decoder.decode(bytes.fromhex("3fe101"))
        self._check(decoder, blocks, _RESPONSES)


class OracleTests(SynchronousTestCase):
    """Both directions against hpack."""

    @_quick
    @given(_blocks, st.booleans())
    def test_decoder(self, blocks: list[list[tuple[str, str]]], use_huffman: bool) -> None:
        """What hpack encodes, we decode to the same fields, block after block."""
        encoder = hpack.Encoder()
        decoder = HeaderDecoder()
        for fields in blocks:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
            self.assertEqual(decoder.decode(encoder.encode(raw, huffman=use_huffman)), fields)

    @_quick
    @given(_blocks, st.sampled_from([0, 64, 200, 4096]), st.integers(0, 4))
    def test_encoder(
        self, blocks: list[list[tuple[str, str]]], table_bytes: int, change_at: int
    ) -> None:
        """What we encode, hpack decodes to the same fields, whatever table it allows."""
        encoder = HeaderEncoder(lambda field: len(field[1]) % 3 > 0)
        decoder = hpack.Decoder()
        for number, fields in enumerate(blocks):
            if number == change_at:
                encoder.set_peer_table(table_bytes)
                decoder.max_allowed_table_size = table_bytes
            raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
            self.assertEqual(decoder.decode(encoder.encode(fields), raw=True), raw)

    @_quick
    @given(st.binary(max_size=60))
    def test_huffman(self, data: bytes) -> None:
        """Any octets survive Huffman coding by hpack."""
        encoder = hpack.huffman.HuffmanEncoder(
            hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
        )
        self.assertEqual(huffman.decode(encoder.encode(data)).encode("latin-1"), data)

    @_quick
    @given(st.lists(st.binary(max_size=80), max_size=4))
    def test_noise(self, blocks: list[bytes]) -> None:
        """Random bytes are refused where hpack refuses them, and never raise anything else."""
        ours = HeaderDecoder()
        theirs = hpack.Decoder(max_header_list_size=limits.HEADER_LIST_BYTES_MAX)
        for block in blocks:
            try:
                expected = [
                    (n.decode("latin-1"), v.decode("latin-1"))
                    for n, v in theirs.decode(block, raw=True)
                ]
            except hpack.HPACKError:
                expected = None
            try:
                got = ours.decode(block)
            except ProtocolError:
                break
            if expected is None:
                break  # stricter there: integers and table sizes have other bounds
            self.assertEqual(got, expected)


class FaultTests(SynchronousTestCase):
    """Blocks that HPACK does not allow."""

    def _refused(self, block: str, code: int = ErrorCode.COMPRESSION_ERROR) -> None:
        error = self.assertRaises(ProtocolError, HeaderDecoder().decode, bytes.fromhex(block))
        self.assertEqual(error.wire_code, code)

    def test_unknown_entries(self) -> None:
        """Entry 0, and entries beyond the tables, do not exist."""
        for block in ("80", "be", "ff00", "7e0161", "ff8001"):
            self._refused(block)

    def test_cut_short(self) -> None:
        """A block ends with a whole field."""
        for block in ("40", "4001", "400161", "40016101", "00026161", "ff", "ff80", "418cf1e3"):
            self._refused(block)

    def test_huffman_padding(self) -> None:
        """Padding is the start of end-of-string: at most seven bits, all ones (section 5.2)."""
        for coded in ("00", "ff", "f8ff", "1fff", "1e"):
            block = "400161" + f"{0x80 | len(coded) // 2:02x}" + coded
            self._refused(block)
        self.assertEqual(HeaderDecoder().decode(bytes.fromhex("400161811f")), [("a", "a")])

    def test_huffman_end_of_string(self) -> None:
        """The end-of-string symbol itself may not be sent."""
        self._refused("40016184ffffffff")

    def test_table_size(self) -> None:
        """A size above ours is refused; so is a change behind a field (section 4.2)."""
        self._refused("3fe21f")
        self._refused("8220")
        HeaderDecoder().decode(bytes.fromhex("3fe11f20"))

    def test_integer_bound(self) -> None:
        """Integers that need more than five octets are refused."""
        self._refused("ffffffffffff7f")

    def test_large_entry_empties_the_table(self) -> None:
        """An entry larger than the table leaves it empty and is no error (section 4.4)."""
        decoder = HeaderDecoder()
        encoder = hpack.Encoder()
        decoder.decode(encoder.encode([("a", "b")]))
        long = [("long", "v" * 5000)]
        self.assertEqual(decoder.decode(encoder.encode(long)), long)
        self.assertRaises(ProtocolError, decoder.decode, b"\xbe")

    def test_expansion_bound(self) -> None:
        """A small block that names a large entry again and again is refused."""
        decoder = HeaderDecoder()
        entry = b"\x40\x01a\x7f" + b"\x81\x1e" + b"v" * (127 + 0xF01)
        self.assertEqual(len(decoder.decode(entry)[0][1]), 127 + 0xF01)
        error = self.assertRaises(ProtocolError, decoder.decode, b"\xbe" * 40)
        self.assertEqual(error.wire_code, ErrorCode.ENHANCE_YOUR_CALM)
        self.assertEqual(len(decoder.decode(b"\xbe" * 30)), 30)
