"""Who is calling, and whether we understand each other: the headers of the peer protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from etcdtw.ids import format_id, parse_decimal
from etcdtw.version import ETCD_VERSION

MIN_CLUSTER_VERSION = "3.0.0"
CLUSTER_ID = b"x-etcd-cluster-id"
SERVER_VERSION = b"x-server-version"
_UNKNOWN_VERSION = "2.0.0"

Header = Callable[[bytes], bytes | None]
"""The value of a request's header."""


@dataclass(frozen=True)
class Identity:
    """This member, as it shows itself to others."""

    member_id: int
    cluster_id: int
    peer_urls: Sequence[str]

    def headers(self) -> dict[bytes, bytes]:
        """What goes along with every call to a peer."""
        return {
            b"X-Server-From": format_id(self.member_id).encode(),
            b"X-Server-Version": ETCD_VERSION.encode(),
            b"X-Min-Cluster-Version": MIN_CLUSTER_VERSION.encode(),
            b"X-Etcd-Cluster-Id": format_id(self.cluster_id).encode(),
            b"X-PeerURLs": ",".join(self.peer_urls).encode(),
        }


def incompatible(header: Header) -> bool:
    """Whether caller and we are too far apart: major and minor versions count."""
    theirs = _minor(_text(header(b"x-server-version")) or _UNKNOWN_VERSION)
    wanted = _minor(_text(header(b"x-min-cluster-version")) or _UNKNOWN_VERSION)
    return theirs < _minor(MIN_CLUSTER_VERSION) or wanted > _minor(ETCD_VERSION)


def parse_hex_id(text: str) -> int | None:
    """An id as paths and headers have it; None if it is none."""
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if text.isalnum() and 0 <= number < 1 << 64 else None


def sender_of(header: Header) -> int | None:
    """The id that a caller gives."""
    return parse_hex_id(_text(header(b"x-server-from")))


def urls_of(header: Header) -> tuple[str, ...]:
    """The peer URLs that a caller gives."""
    text = _text(header(b"x-peerurls"))
    return tuple(each for each in text.split(",") if each.startswith(("http://", "https://")))


def version_of(headers: Mapping[bytes, bytes]) -> tuple[int, int]:
    """Major and minor version of whoever answered; 2.0 for one that does not say."""
    return _minor(_text(headers.get(SERVER_VERSION)) or _UNKNOWN_VERSION)


def own_minor() -> tuple[int, int]:
    return _minor(ETCD_VERSION)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1")


def _minor(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    found = parse_decimal(major), parse_decimal(minor)
    return (2, 0) if found[0] is None or found[1] is None else (found[0], found[1])
