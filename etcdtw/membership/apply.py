"""Requests from the log that speak of membership, and all others of the v2 tree."""

from __future__ import annotations

import re
from typing import Any

from etcdtw.membership.member import VERSION_PATH
from etcdtw.membership.members import Members
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.v2store import Event, V2Store, apply_request, is_plain_put

_ATTRIBUTES = re.compile("/0/members/([0-9a-f]{1,16})/attributes")


def apply_v2_request(
    store: V2Store, members: Members, request: Request, to_backend: bool = True
) -> Event | None:
    """Apply a request to the tree; a member that publishes itself and the cluster's version also
    go to ``members`` (and, with ``to_backend``, to its backend).

    Returns the event for whoever waits, None where there is nothing to answer. Raises V2Error or
    UnknownMethod, the same on all members.
    """
    if is_plain_put(request):
        published = _ATTRIBUTES.fullmatch(request.Path)
        if published is not None:
            members.publish(int(published[1], 16), request.Val, to_backend)
            return None
        if request.Path == VERSION_PATH:
            members.set_version(request.Val, to_backend)
            return None
    return apply_request(store, request)


MEMBERSHIP_KINDS = ("cluster_version_set", "cluster_member_attr_set")
"""What etcd 3.6 proposes in place of v2 requests; 3.5 applies it."""


def apply_membership(members: Members, kind: str, request: Any, to_backend: bool = True) -> None:
    """Apply a request of one of these kinds."""
    if kind == "cluster_version_set":
        members.set_version(request.ver, to_backend)
    else:
        found = request.member_attributes
        urls = tuple(found.client_urls)
        members.set_attributes(request.member_ID, found.name, urls, to_backend)


def publish_request(request_id: int, path: str, attributes: str) -> Request:
    """The request with which a member (``path``: its directory) publishes its ``attributes``."""
    return _put(request_id, path + "/attributes", attributes)


def version_request(request_id: int, version: str) -> Request:
    """The request with which the leader sets the cluster's version."""
    return _put(request_id, VERSION_PATH, version)


def _put(request_id: int, path: str, value: str) -> Request:
    return fill_request(Request(ID=request_id, Method="PUT", Path=path, Val=value))


def fill_request(request: Request) -> Request:
    """Set every field that etcd always writes, so that the bytes are the same; returns it."""
    for field in request.DESCRIPTOR.fields:
        if field.name not in ("PrevExist", "Refresh") and not request.HasField(field.name):
            setattr(request, field.name, getattr(request, field.name))
    return request
