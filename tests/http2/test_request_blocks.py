"""Remembered header blocks say what decoding them would say."""

from __future__ import annotations

from collections.abc import Callable

import hpack
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import ProtocolError
from etcdtw.http2.frames import StreamError
from etcdtw.http2.header_decoder import HeaderDecoder
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import request_headers
from etcdtw.http2.request_blocks import RequestBlocks

from .recorder import REQUEST

TIMEOUT = "grpc-timeout"
Said = tuple[list[Field], str | None] | str
Reader = Callable[[bytes], Said]

_extra = st.lists(
    st.tuples(st.sampled_from(["token", "x-a", TIMEOUT, "te"]), st.sampled_from(["a", "trailers"])),
    max_size=2,
)
_timeout = st.one_of(
    st.none(),
    st.integers(0, 99_999_999).map("{}u".format),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=120),
)
_request = st.tuples(
    st.sampled_from(["/a.B/C", "/a.B/D"]), _extra, _timeout, _extra, st.booleans(), st.booleans()
)
_table_size = st.sampled_from([0, 60, 200, 500, 4096])


def remembering() -> Reader:
    blocks = RequestBlocks(HeaderDecoder(), TIMEOUT)

    def read(block: bytes) -> Said:
        headers, value = blocks.unchanging.get(block) or blocks.read(block)
        pseudo = [(f":{each}", getattr(headers, each)) for each in ("method", "path", "scheme")]
        return [*pseudo, *headers.fields], value

    return read


def forgetful() -> Reader:
    """Decodes each block as a whole."""
    decoder = HeaderDecoder()

    def read(block: bytes) -> Said:
        fields = decoder.decode(block)
        places = [at for at, (name, _) in enumerate(fields) if name == TIMEOUT]
        value = fields.pop(places[-1])[1] if places else None
        headers = request_headers(fields)
        pseudo = [(f":{each}", getattr(headers, each)) for each in ("method", "path", "scheme")]
        return [*pseudo, *headers.fields], value

    return read


def told(read: Reader, block: bytes) -> Said:
    """What it says, or what kind of refusal, of which only the connection's ends it."""
    try:
        return read(block)
    except StreamError as error:
        return f"stream: {error}"
    except ProtocolError as error:
        return f"connection: {error}"


class OracleTests(SynchronousTestCase):
    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(
        st.lists(_request, min_size=1, max_size=150),
        st.dictionaries(st.integers(0, 150), _table_size, max_size=2),
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=1),
    )
    def test_requests(
        self,
        requests: list[tuple[str, list[Field], str | None, list[Field], bool, bool]],
        table_sizes: dict[int, int],
        faults: list[tuple[int, int]],
    ) -> None:
        """Requests of which only the time left differs, and others in between, in tables of any
        size; the last block perhaps with one byte changed."""
        encoder = hpack.Encoder()
        remembers, decodes = remembering(), forgetful()
        for number, (path, before, timeout, behind, huffman, repeated) in enumerate(requests):
            if number in table_sizes:
                encoder.header_table_size = table_sizes[number]
            fields = [field if field[0] != ":path" else (":path", path) for field in REQUEST]
            if not repeated:
                fields += before
            fields += [] if timeout is None else [(TIMEOUT, timeout.strip())]
            if not repeated:
                fields += behind
            raw = [(name.encode(), value.encode("latin-1")) for name, value in fields]
            block = encoder.encode(raw, huffman=huffman)
            if number == len(requests) - 1:
                for at, byte in faults:
                    block = block[:at] + bytes((byte,)) + block[at + 1 :]
            self.assertEqual(told(remembers, block), told(decodes, block))

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.lists(st.binary(max_size=12), min_size=1, max_size=4))
    def test_noise(self, blocks: list[bytes]) -> None:
        """Any bytes behind blocks that are known."""
        encoder = hpack.Encoder()
        remembers, decodes = remembering(), forgetful()
        known = [encoder.encode([*REQUEST, (TIMEOUT, f"{each}u")]) for each in range(5)]
        for block in [*known, *blocks, known[-1][:5] + blocks[0]]:
            said = told(decodes, block)
            self.assertEqual(told(remembers, block), said)
            if isinstance(said, str) and said.startswith("connection"):
                break


class VaryingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.decoder = HeaderDecoder()
        self.blocks = RequestBlocks(self.decoder, TIMEOUT)
        self.encoder = hpack.Encoder()
        self.number = 0

    def request(self, *behind: Field) -> bytes:
        """Another request whose time left is new."""
        self.number += 1
        block: bytes = self.encoder.encode([*REQUEST, (TIMEOUT, f"{self.number}u"), *behind])
        return block

    def decoded(self, count: int, *behind: Field) -> int:
        """How many of so many requests were decoded."""
        decoded = 0
        decode = HeaderDecoder.decode

        def counting(decoder: HeaderDecoder, block: bytes) -> list[Field]:
            nonlocal decoded
            decoded += 1
            return decode(decoder, block)

        self.patch(HeaderDecoder, "decode", counting)
        for _ in range(count):
            headers, value = self.blocks.read(self.request(*behind))
            self.assertEqual((headers.path, value), ("/a.B/C", f"{self.number}u"))
            self.assertEqual(headers.fields, (*REQUEST[4:], *behind))
        return decoded

    def test_remembered(self) -> None:
        """Most are not decoded, though each moves all entries, pushes others out of the table and
        has them entered again; with fields behind the new one as well."""
        self.assertLess(self.decoded(1000), 300)
        self.assertLess(self.decoded(1000, ("token", "a"), ("hasleader", "true")), 500)

    def test_bounded(self) -> None:
        """What is remembered is bounded whatever comes."""
        for number in range(3000):
            self.blocks.read(self.request(("x", str(number % 300))))
            self.assertLessEqual(len(self.blocks._moving), 64)

    def test_entry_that_is_gone(self) -> None:
        """A block that names an entry which was pushed out is refused, known or not."""
        for _ in range(3):
            self.blocks.read(self.request())
        last = self.request()
        self.blocks.read(last)
        self.decoder.decode(b"\x3f\x41")  # a table of 96 bytes
        self.assertRaises(ProtocolError, self.blocks.read, last)

    def test_name_of_another(self) -> None:
        """The same bytes may enter a field of another name."""
        self.decoded(3)
        block = self.request()
        at = block.index(b"\x7e")
        other = HeaderDecoder()
        blocks = RequestBlocks(other, TIMEOUT)
        encoder = hpack.Encoder()
        for number in range(3):
            fields = [*REQUEST, (TIMEOUT, f"{number}u")]
            blocks.read(encoder.encode(fields))
        blocks.read(encoder.encode([*REQUEST, ("token", "1")]))
        moved = bytes(each + 1 if each >= 0xBE else each for each in block[:at]) + block[at:]
        headers, value = blocks.read(moved)
        self.assertEqual(value, None)
        self.assertEqual(headers.fields[-1][0], "token")

    def test_cut_value(self) -> None:
        """A value that is cut short is no shorter value."""
        self.decoded(3)
        self.assertRaises(ProtocolError, self.blocks.read, self.request()[:-1])
