"""From the headers of a request to the method it is for, or to its refusal."""

from __future__ import annotations

from etcdtw.errors import Code, EtcdError, StatusError, Unimplemented
from etcdtw.http2.header_table import Field
from etcdtw.http2.message import Headers

from .call import Target
from .router import UNKNOWN_VERSION, Router
from .status import RESPONSE_HEADERS, error_trailers

_CONTENT_TYPE = "application/grpc"
# What gRPC itself puts into headers; the rest of the fields is metadata.
_RESERVED = frozenset({"content-type", "te", "grpc-encoding", "grpc-accept-encoding"})


class Refusal:
    """The whole answer to every request with certain headers."""

    __slots__ = ("fields", "is_page")

    def __init__(self, fields: tuple[Field, ...], is_page: bool = False) -> None:
        """``is_page``: it is no gRPC at all, and perhaps somebody serves it who speaks HTTP."""
        self.fields = fields
        self.is_page = is_page


def is_grpc(headers: Headers) -> bool:
    """Whether the content type is gRPC's, alone or with a subtype or parameters."""
    value = (headers.get("content-type") or "").lower()
    return value == _CONTENT_TYPE or value.startswith((_CONTENT_TYPE + "+", _CONTENT_TYPE + ";"))


def find_target(router: Router, headers: Headers) -> Target | Refusal:
    """What these headers ask for."""
    if not is_grpc(headers):
        text = f'invalid gRPC request content-type "{headers.get("content-type") or ""}"'
        return _http_refusal("415", StatusError(Code.INVALID_ARGUMENT, text), is_page=True)
    if headers.method != "POST":
        text = f"the method of a gRPC request is POST, not {headers.method}"
        return _http_refusal("405", StatusError(Code.INTERNAL, text))
    method = router.find(headers.path)
    if isinstance(method, EtcdError):
        return Refusal(RESPONSE_HEADERS + error_trailers(method))
    encoding = headers.get("grpc-encoding") or "identity"
    if encoding not in ("identity", "gzip"):
        text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
        return Refusal(RESPONSE_HEADERS + error_trailers(Unimplemented(text)))
    metadata: dict[str, str] = {}
    for name, value in headers.fields:
        if name not in _RESERVED:
            metadata.setdefault(name, value)
    version = metadata.get("client-api-version", UNKNOWN_VERSION)
    return Target(method, metadata, encoding == "gzip", router.clients(version, method.kind))


def _http_refusal(status: str, error: EtcdError, is_page: bool = False) -> Refusal:
    return Refusal(((":status", status), *RESPONSE_HEADERS[1:], *error_trailers(error)), is_page)
