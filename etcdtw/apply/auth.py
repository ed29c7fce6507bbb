"""Which permissions the entries of the log need (etcd's rules, by kind of request)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from etcdtw.apply.plain_put import is_plain
from etcdtw.auth import AuthStore, Caller
from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import RequestOp

CHANGES = (
    *("auth_enable", "authenticate"),
    *("auth_disable", "auth_status"),
    *("auth_user_add", "auth_user_delete", "auth_user_change_password", "auth_user_get"),
    *("auth_user_list", "auth_user_grant_role", "auth_user_revoke_role"),
    *("auth_role_add", "auth_role_delete", "auth_role_get", "auth_role_list"),
    *("auth_role_grant_permission", "auth_role_revoke_permission"),
)
"""The kinds of entries that the auth store applies."""

_FOR_ANYBODY = frozenset({"authenticate", "auth_user_get", "auth_role_get"})
_FOR_ADMINS = frozenset(CHANGES) - _FOR_ANYBODY


class AuthChecks:
    """Asked before an entry is applied, while auth is on."""

    def __init__(self, store: AuthStore, keys_of_lease: Callable[[int], Iterable[bytes]]) -> None:
        self._store = store
        self._keys_of_lease = keys_of_lease
        self._checks: dict[str, Callable[[Caller, Any], None]] = {
            "range": self._range,
            "put": self._put,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "lease_revoke": lambda caller, request: self._lease(caller, request.ID),
            "auth_user_get": self._user_get,
            "auth_role_get": self._role_get,
            **dict.fromkeys(_FOR_ADMINS, lambda caller, _: store.check_admin(caller)),
        }

    def check(self, kind: str, caller: Caller, request: Any) -> None:
        """Raise the EtcdError with which the request is refused; nothing for kinds that need no
        permission."""
        found = self._checks.get(kind)
        if found is not None:
            found(caller, request)

    def _range(self, caller: Caller, request: Any) -> None:
        self._store.check_read(caller, request.key, request.range_end)

    def _put(self, caller: Caller, request: Any) -> None:
        if is_plain(request):
            self._store.check_write(caller, request[0])
            return
        self._store.check_write(caller, request.key)
        # Whoever may not write all keys of a lease could not revoke it.
        self._lease(caller, request.lease)
        if request.prev_kv:
            self._store.check_read(caller, request.key)

    def _delete_range(self, caller: Caller, request: Any) -> None:
        self._store.check_write(caller, request.key, request.range_end)
        if request.prev_kv:
            self._store.check_read(caller, request.key, request.range_end)

    def _lease(self, caller: Caller, lease: int) -> None:
        for key in self._keys_of_lease(lease):
            self._store.check_write(caller, key)

    def _txn(self, caller: Caller, request: Any) -> None:
        for compare in request.compare:
            self._store.check_read(caller, compare.key, compare.range_end)
        self._operations(caller, request.success)
        self._operations(caller, request.failure)

    def _operations(self, caller: Caller, operations: Iterable[RequestOp]) -> None:
        """Both branches, whichever is taken. Neither what is nested deeper is looked at, nor what
        a put shows or whose lease it takes, as in etcd: members must agree."""
        for each in operations:
            match each.WhichOneof("request"):
                case "request_range":
                    self._range(caller, each.request_range)
                case "request_put":
                    self._store.check_write(caller, each.request_put.key)
                case "request_delete_range":
                    self._delete_range(caller, each.request_delete_range)

    def _user_get(self, caller: Caller, request: Any) -> None:
        self._admin_or(caller, self._store.may_see_user(caller, request.name))

    def _role_get(self, caller: Caller, request: Any) -> None:
        self._admin_or(caller, self._store.may_see_role(caller, request.role))

    def _admin_or(self, caller: Caller, allowed: bool) -> None:
        try:
            self._store.check_admin(caller)
        except EtcdError:
            if not allowed:
                raise
