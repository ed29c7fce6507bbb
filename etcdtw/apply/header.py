"""The header that every v3 response begins with."""

from __future__ import annotations

from etcdtw.varint import varint

# A field's tag and the longest varint, and one more for the end of a range.
_NUMBER_BYTES_MAX = 1 + 10 + 1


class HeaderSource:
    """Knows cluster, member and term; given a revision it makes response headers.

    Whoever follows the term sets ``term``.
    """

    __slots__ = (
        "_before_revision",
        "_encoded",
        "_identity",
        "_revision",
        "_starts",
        "_tail",
        "_term",
        "cluster_id",
        "member_id",
    )

    def __init__(self, cluster_id: int, member_id: int, term: int = 0) -> None:
        self.cluster_id = cluster_id
        self.member_id = member_id
        self._identity = _field(b"\x08", cluster_id) + _field(b"\x10", member_id)
        self.term = term

    @property
    def term(self) -> int:
        return self._term

    @term.setter
    def term(self, term: int) -> None:
        self._term = term
        self._tail = _field(b"\x20", term)
        # What comes before the revision depends on its length alone.
        rest = len(self._identity) + len(self._tail)
        self._starts = [
            b"\x0a" + varint(rest + length) + self._identity for length in range(_NUMBER_BYTES_MAX)
        ]
        self._before_revision = [start + b"\x18" for start in self._starts[1:]]
        self._revision = -1
        self._encoded = b""

    def encode(self, revision: int) -> bytes:
        """Field 1 of a response, tag and length included; revision 0 is left out."""
        if revision != self._revision:
            number = b"\x18" + varint(revision) if revision else b""
            self._encoded = self._starts[len(number)] + number + self._tail
            self._revision = revision
        return self._encoded

    def encode_each(self, revisions: list[bytes]) -> list[bytes]:
        """The same of several revisions, given as varints of which none is 0."""
        before, tail = self._before_revision, self._tail
        return [before[len(each)] + each + tail for each in revisions]


def revision_header(revision: int) -> bytes:
    """The header of a response inside a transaction's response: the revision alone."""
    body = _field(b"\x18", revision)
    return b"\x0a" + varint(len(body)) + body


def _field(tag: bytes, value: int) -> bytes:
    return tag + varint(value) if value else b""
