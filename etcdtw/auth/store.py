"""Users and roles in the backend, in etcd's buckets and by its rules, changed by log entries."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import NamedTuple

from etcdtw.auth.permissions import Permissions
from etcdtw.errors import (
    AuthFailed,
    AuthNotEnabled,
    AuthOldRevision,
    InvalidAuthManagement,
    PermissionDenied,
    PermissionNotGiven,
    PermissionNotGranted,
    RoleEmpty,
    RoleExists,
    RoleNotFound,
    RoleNotGranted,
    RootRoleMissing,
    RootUserMissing,
    UserEmpty,
    UserExists,
    UserNotFound,
)
from etcdtw.mvcc.interfaces import IBackend
from etcdtw.pb import raft_internal_pb2 as log
from etcdtw.pb import rpc_pb2 as pb
from etcdtw.pb.auth_pb2 import Permission, Role, User, UserAddOptions

ROOT = b"root"
"""The user, and the role, that may do everything."""

AUTH, USERS, ROLES = b"auth", b"authUsers", b"authRoles"
_ENABLED, _REVISION = b"authEnabled", b"authRevision"
_EVERYTHING = Permission(permType=Permission.READWRITE, key=b"", range_end=b"\0")


class Caller(NamedTuple):
    """Who proposed an entry, and the auth revision at which that was found out; no name and 0 for
    somebody without a token."""

    name: bytes
    revision: int


class AuthStore:
    """The replicated state of authentication.

    Methods named after requests apply them: they return the response without its header or raise
    an EtcdError, and do the same on every member. Every change of users and roles raises
    ``revision``. ``hash_password`` is asked for the passwords that etcd before 3.5 put into the log
    unhashed; the members of such a cluster have different hashes of one password.
    """

    def __init__(self, backend: IBackend, hash_password: Callable[[bytes], bytes]) -> None:
        self._backend = backend
        self._hash_password = hash_password
        self._permissions: dict[bytes, Permissions] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called when ``enabled`` or ``revision`` may have changed."""
        self.enabled = backend.get(AUTH, _ENABLED) == b"\1"
        self.revision = int.from_bytes(backend.get(AUTH, _REVISION) or b"", "big")
        if self.revision == 0:
            self._changed()

    # --- who may what --------------------------------------------------------------------------

    def check_admin(self, caller: Caller) -> None:
        """Raise unless auth is off or the caller has the role root."""
        if not self.enabled:
            return
        if not caller.name:
            raise UserEmpty
        user = self._user(caller.name)
        if user is None or not _is_root(user):
            raise PermissionDenied

    def check_read(self, caller: Caller, key: bytes, range_end: bytes = b"") -> None:
        """Raise unless the caller may read these keys."""
        found = self._permissions_of(caller)
        if found is not None and not found.may_read(key, range_end):
            raise PermissionDenied

    def check_write(self, caller: Caller, key: bytes, range_end: bytes = b"") -> None:
        """Raise unless the caller may write these keys."""
        found = self._permissions_of(caller)
        if found is not None and not found.may_write(key, range_end):
            raise PermissionDenied

    def _permissions_of(self, caller: Caller) -> Permissions | None:
        """None: everything is allowed."""
        if not self.enabled:
            return None
        if caller.revision == 0:
            raise UserEmpty
        if caller.revision < self.revision:
            raise AuthOldRevision
        user = self._user(caller.name)
        if user is None:
            raise PermissionDenied
        if _is_root(user):
            return None
        found = self._permissions.get(caller.name)
        if found is None:
            roles = [role for role in map(self._role, user.roles) if role is not None]
            found = Permissions(each for role in roles for each in role.keyPermission)
            self._permissions[caller.name] = found
        return found

    # --- on and off ----------------------------------------------------------------------------

    def auth_enable(self, request: pb.AuthEnableRequest) -> pb.AuthEnableResponse:
        if not self.enabled:
            root = self._user(ROOT)
            if root is None:
                raise RootUserMissing
            if not _is_root(root):
                raise RootRoleMissing
            self._switch(True)
        return pb.AuthEnableResponse()

    def auth_disable(self, request: pb.AuthDisableRequest) -> pb.AuthDisableResponse:
        if self.enabled:
            self._changed()
            self._switch(False)
        return pb.AuthDisableResponse()

    def auth_status(self, request: pb.AuthStatusRequest) -> pb.AuthStatusResponse:
        return pb.AuthStatusResponse(enabled=self.enabled, authRevision=self.revision)

    def authenticate(self, request: log.InternalAuthenticateRequest) -> pb.AuthenticateResponse:
        """The password was checked before the entry was proposed. The answer has the part of a
        simple token that the log gives."""
        if not self.enabled:
            raise AuthNotEnabled
        user = self._user(request.name)
        if user is None or user.options.no_password:
            raise AuthFailed
        return pb.AuthenticateResponse(token=request.simple_token)

    def _switch(self, enabled: bool) -> None:
        self._backend.put(AUTH, _ENABLED, bytes((enabled,)))
        self.enabled = enabled
        self._tell()

    # --- users ---------------------------------------------------------------------------------

    def auth_user_add(self, request: log.AuthUserAdd) -> pb.AuthUserAddResponse:
        if not request.name:
            raise UserEmpty
        if self._user(request.name) is not None:
            raise UserExists
        options = UserAddOptions(no_password=request.options.no_password)
        password = b"" if options.no_password else self._password(request)
        self._keep_user(User(name=request.name, password=password, options=options))
        self._changed()
        return pb.AuthUserAddResponse()

    def auth_user_delete(self, request: log.AuthUserDelete) -> pb.AuthUserDeleteResponse:
        if self.enabled and request.name == ROOT:
            raise InvalidAuthManagement
        self._require_user(request.name)
        self._backend.delete(USERS, request.name)
        self._changed()
        return pb.AuthUserDeleteResponse()

    def auth_user_change_password(
        self, request: log.AuthUserChangePassword
    ) -> pb.AuthUserChangePasswordResponse:
        user = self._require_user(request.name)
        user.password = b"" if user.options.no_password else self._password(request)
        self._keep_user(user)
        self._changed()
        return pb.AuthUserChangePasswordResponse()

    def auth_user_get(self, request: log.AuthUserGet) -> pb.AuthUserGetResponse:
        return pb.AuthUserGetResponse(roles=_texts(self._require_user(request.name).roles))

    def auth_user_list(self, request: pb.AuthUserListRequest) -> pb.AuthUserListResponse:
        return pb.AuthUserListResponse(users=_texts(self._names(USERS)))

    def auth_user_grant_role(self, request: log.AuthUserGrantRole) -> pb.AuthUserGrantRoleResponse:
        user = self._require_user(request.user)
        if request.role != ROOT:
            self._require_role(request.role)
        if request.role not in user.roles:
            roles = sorted([*user.roles, request.role])
            del user.roles[:]
            user.roles.extend(roles)
            self._keep_user(user)
            self._changed()
        return pb.AuthUserGrantRoleResponse()

    def auth_user_revoke_role(
        self, request: log.AuthUserRevokeRole
    ) -> pb.AuthUserRevokeRoleResponse:
        if self.enabled and request.name == ROOT and request.role == ROOT:
            raise InvalidAuthManagement
        user = self._require_user(request.name)
        if request.role not in user.roles:
            raise RoleNotGranted
        user.roles.remove(request.role)
        self._keep_user(user)
        self._changed()
        return pb.AuthUserRevokeRoleResponse()

    # --- roles ---------------------------------------------------------------------------------

    def auth_role_add(self, request: log.AuthRoleAdd) -> pb.AuthRoleAddResponse:
        if not request.name:
            raise RoleEmpty
        if self._role(request.name) is not None:
            raise RoleExists
        self._keep_role(Role(name=request.name))
        self._changed()
        return pb.AuthRoleAddResponse()

    def auth_role_delete(self, request: log.AuthRoleDelete) -> pb.AuthRoleDeleteResponse:
        if self.enabled and request.role == ROOT:
            raise InvalidAuthManagement
        self._require_role(request.role)
        self._backend.delete(ROLES, request.role)
        for name in self._names(USERS):
            user = self._require_user(name)
            if request.role in user.roles:
                user.roles.remove(request.role)
                self._keep_user(user)
        self._changed()
        return pb.AuthRoleDeleteResponse()

    def auth_role_get(self, request: log.AuthRoleGet) -> pb.AuthRoleGetResponse:
        role = self._require_role(request.role)
        permissions = [_EVERYTHING] if request.role == ROOT else role.keyPermission
        return pb.AuthRoleGetResponse(perm=permissions)

    def auth_role_list(self, request: pb.AuthRoleListRequest) -> pb.AuthRoleListResponse:
        return pb.AuthRoleListResponse(roles=_texts(self._names(ROLES)))

    def auth_role_grant_permission(
        self, request: log.AuthRoleGrantPermission
    ) -> pb.AuthRoleGrantPermissionResponse:
        if not request.HasField("perm"):
            raise PermissionNotGiven
        role, given = self._require_role(request.name), request.perm
        # As etcd 3.5.1 does: only the first permission with this key may be overwritten, so that
        # one with the same end may come to be listed twice.
        same_key = next((each for each in role.keyPermission if each.key >= given.key), None)
        if same_key is not None and (same_key.key, same_key.range_end) == (
            given.key,
            given.range_end,
        ):
            same_key.permType = given.permType
        else:
            role.keyPermission.append(given)
            role.keyPermission.sort(key=lambda each: each.key)
        self._keep_role(role)
        self._changed()
        return pb.AuthRoleGrantPermissionResponse()

    def auth_role_revoke_permission(
        self, request: log.AuthRoleRevokePermission
    ) -> pb.AuthRoleRevokePermissionResponse:
        role = self._require_role(request.role)
        revoked = (request.key, request.range_end)
        left = [each for each in role.keyPermission if (each.key, each.range_end) != revoked]
        if len(left) == len(role.keyPermission):
            raise PermissionNotGranted
        self._keep_role(Role(name=role.name, keyPermission=left))
        self._changed()
        return pb.AuthRoleRevokePermissionResponse()

    def may_see_user(self, caller: Caller, name: bytes) -> bool:
        """Whether the caller may ask for a user without being an administrator: for itself."""
        return caller.name == name

    def may_see_role(self, caller: Caller, name: bytes) -> bool:
        """Whether the caller may ask for a role without being an administrator: for its own."""
        user = self._user(caller.name)
        return user is not None and name in user.roles

    # --- inside --------------------------------------------------------------------------------

    def _user(self, name: bytes) -> User | None:
        found = self._backend.get(USERS, name)
        return None if found is None else User.FromString(found)

    def _role(self, name: bytes) -> Role | None:
        found = self._backend.get(ROLES, name)
        return None if found is None else Role.FromString(found)

    def _require_user(self, name: bytes) -> User:
        user = self._user(name)
        if user is None:
            raise UserNotFound
        return user

    def _require_role(self, name: bytes) -> Role:
        role = self._role(name)
        if role is None:
            raise RoleNotFound
        return role

    def _names(self, bucket: bytes) -> list[bytes]:
        return [key for key, _ in self._backend.scan(bucket, b"", None)]

    def _keep_user(self, user: User) -> None:
        user.options.SetInParent()  # etcd writes the options of every user
        self._backend.put(USERS, user.name, user.SerializeToString())

    def _keep_role(self, role: Role) -> None:
        self._backend.put(ROLES, role.name, role.SerializeToString())

    def _password(self, request: log.AuthUserAdd | log.AuthUserChangePassword) -> bytes:
        if request.password and not request.hashedPassword:
            return self._hash_password(request.password)
        return b64decode(request.hashedPassword)

    def _changed(self) -> None:
        self.revision += 1
        self._permissions.clear()
        self._backend.put(AUTH, _REVISION, self.revision.to_bytes(8, "big"))
        self._tell()

    def _tell(self) -> None:
        for each in self.on_change:
            each()


def _is_root(user: User) -> bool:
    return ROOT in user.roles


def _texts(names: Iterable[bytes]) -> list[str]:
    return [name.decode("utf-8", "replace") for name in names]
