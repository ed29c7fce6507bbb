"""What is looked at before a peer's call is served, in etcd's order."""

from __future__ import annotations

from etcdtw.api.http.requests import HttpRequest, plain_error
from etcdtw.ids import format_id
from etcdtw.peer.headers import CLUSTER_ID, incompatible
from etcdtw.peer.transport import PeerTransport


def refusal(request: HttpRequest, transport: PeerTransport, method: bytes) -> bytes | None:
    """The whole answer to a call of the wrong kind, version or cluster; None to one that may be
    served."""
    if request.method != method:
        request.setHeader(b"allow", method)
        return plain_error(request, 405, "Method Not Allowed")
    own = format_id(transport.identity.cluster_id).encode()
    request.setHeader(CLUSTER_ID, own)
    if incompatible(request.getHeader):
        return plain_error(request, 412, "incompatible version")
    if request.getHeader(CLUSTER_ID) != own:
        return plain_error(request, 412, "cluster ID mismatch")
    return None
