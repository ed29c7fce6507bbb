"""Log entries that hold a v2 ``Request``: what each method does to the tree."""

from __future__ import annotations

from etcdtw.errors import EtcdError
from etcdtw.pb.etcdserver_pb2 import Request
from etcdtw.v2store.event import Event
from etcdtw.v2store.tree import V2Store


class UnknownMethod(EtcdError):
    """A v2 request with a method that no release knows."""

    text = "etcdserver: unknown method"


def is_plain_put(request: Request) -> bool:
    """Whether this is a PUT without any condition."""
    return (
        request.Method == "PUT"
        and not request.HasField("PrevExist")
        and not request.PrevIndex
        and not request.PrevValue
    )


def apply_request(store: V2Store, request: Request) -> Event | None:
    """Apply a request from the log; None where there is nothing to answer.

    Raises V2Error or UnknownMethod, the same on all members.
    """
    match request.Method:
        case "PUT":
            return _apply_put(store, request)
        case "POST":
            return store.create(
                request.Path,
                request.Val,
                is_dir=request.Dir,
                in_order=True,
                expiration=request.Expiration,
            )
        case "DELETE":
            if request.PrevIndex or request.PrevValue:
                return store.compare_and_delete(request.Path, request.PrevValue, request.PrevIndex)
            return store.delete(request.Path, is_dir=request.Dir, recursive=request.Recursive)
        case "QGET":
            return store.get(request.Path, request.Recursive, request.Sorted)
        case "SYNC":
            store.expire_until(request.Time)
            return None
    raise UnknownMethod()


def _apply_put(store: V2Store, request: Request) -> Event:
    path, value, expiration = request.Path, request.Val, request.Expiration
    if request.HasField("PrevExist") and not request.PrevExist:
        return store.create(path, value, is_dir=request.Dir, expiration=expiration)
    if request.PrevIndex or request.PrevValue:
        return store.compare_and_swap(
            path,
            request.PrevValue,
            request.PrevIndex,
            value,
            expiration=expiration,
            refresh=request.Refresh,
        )
    if request.HasField("PrevExist"):
        return store.update(path, value, expiration=expiration, refresh=request.Refresh)
    return store.set(
        path, value, is_dir=request.Dir, expiration=expiration, refresh=request.Refresh
    )
