"""``/v2/auth``: users, roles, and whether they count."""

from __future__ import annotations

from typing import Any

from etcdtw.api.http.requests import HttpRequest, answer, json_in, plain_error
from etcdtw.api.v2.running import JSON, NO_ACCESS, finish, run
from etcdtw.api.v2.users import (
    AuthError,
    InvalidJson,
    Refused,
    Role,
    User,
    Users,
    role_from_json,
    strings,
    text_in,
)
from etcdtw.ids import format_id
from etcdtw.v2store import V2Error

AUTH_PREFIX = b"/v2/auth/"
Answer = tuple[int, object]
"""Status and what to encode; None is an empty body."""


class AuthPage:
    """Everything under ``/v2/auth/``."""

    def __init__(self, users: Users, cluster_id: int) -> None:
        self._users = users
        self._cluster_id = format_id(cluster_id).encode()

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        pieces = path[len(AUTH_PREFIX) :].decode("utf-8", "replace").strip("/").split("/")
        kind, name = pieces[0], pieces[1] if len(pieces) > 1 else ""
        methods = ("GET", "PUT", "DELETE") if kind == "enable" or name else ("GET",)
        if kind in ("users", "roles") and len(pieces) > 2:
            return answer(request, 400, b'{"message":"Invalid path"}', JSON)
        if kind not in ("enable", "users", "roles") or len(pieces) > 2:
            return plain_error(request, 404, "404 page not found")
        if request.method.decode() not in methods:
            request.setHeader(b"allow", ",".join(methods).encode())
            return plain_error(request, 405, "Method Not Allowed")
        request.setHeader(b"x-etcd-cluster-id", self._cluster_id)
        run(request, self._serve(request, kind, name))
        return None

    async def _serve(self, request: HttpRequest, kind: str, name: str) -> None:
        try:
            # Anybody may ask whether it is on.
            is_open = kind == "enable" and request.method == b"GET"
            authorization = request.getHeader(b"authorization") or b""
            if not is_open and not await self._users.is_root(authorization):
                raise Refused(401, NO_ACCESS)
            serve = getattr(self, f"_{request.method.decode().lower()}_{kind}")
            status, found = await serve(name, request)
        except AuthError as error:
            finish(request, error.status, {"message": str(error)}, end="")
        except V2Error as error:
            request.setHeader(b"x-etcd-index", b"%d" % error.index)
            body = error.json().encode() + b"\n"
            request.write(answer(request, error.status, body, JSON))
            request.finish()
        else:
            finish(request, status, found)

    # --- enable ----------------------------------------------------------------------------------

    async def _get_enable(self, name: str, request: HttpRequest) -> Answer:
        return 200, {"enabled": self._users.enabled}

    async def _put_enable(self, name: str, request: HttpRequest) -> Answer:
        await self._users.enable()
        return 200, None

    async def _delete_enable(self, name: str, request: HttpRequest) -> Answer:
        await self._users.disable()
        return 200, None

    # --- users -----------------------------------------------------------------------------------

    async def _get_users(self, name: str, request: HttpRequest) -> Answer:
        users = self._users
        if name:
            return 200, self._with_roles(users.user(name), strict=True)
        found = [self._with_roles(users.user(each), strict=False) for each in users.user_names()]
        return 200, {"users": found or None}

    def _with_roles(self, user: User, *, strict: bool) -> dict[str, Any]:
        roles = []
        for each in user.roles or ():
            try:
                roles.append(self._users.role(each).shown())
            except AuthError:
                if strict:
                    raise
        shown: dict[str, Any] = {"user": user.name}
        if roles:
            shown["roles"] = roles
        return shown

    async def _put_users(self, name: str, request: HttpRequest) -> Answer:
        found = _body(request)
        if text_in(found, "user") != name:
            raise Refused(400, "User JSON name does not match the name in the URL")
        password, roles = text_in(found, "password"), strings(found.get("roles"))
        grant, revoke = strings(found.get("grant")) or (), strings(found.get("revoke")) or ()
        if (grant or revoke) and roles:
            raise Refused(400, "User JSON contains both roles and grant/revoke")
        if not grant and not revoke and (roles or name not in self._users.user_names()):
            made = await self._users.create_user(User(name, roles=roles), password)
            return (200 if roles else 201), _shown(made)
        return 200, _shown(await self._users.update_user(name, password, grant, revoke))

    async def _delete_users(self, name: str, request: HttpRequest) -> Answer:
        await self._users.delete_user(name)
        return 200, None

    # --- roles -----------------------------------------------------------------------------------

    async def _get_roles(self, name: str, request: HttpRequest) -> Answer:
        if name:
            return 200, self._users.role(name).shown()
        roles = [self._users.role(each).shown() for each in self._users.role_names()]
        return 200, {"roles": roles}

    async def _put_roles(self, name: str, request: HttpRequest) -> Answer:
        found = _body(request)
        if text_in(found, "role") != name:
            raise Refused(400, "Role JSON name does not match the name in the URL")
        role = role_from_json(found)
        grant, revoke = (
            role_from_json({"role": name, "permissions": found.get(each)})
            for each in ("grant", "revoke")
        )
        if _is_empty(grant) and _is_empty(revoke):
            await self._users.create_role(role)
            return 201, role.shown()
        if not _is_empty(role):
            raise Refused(400, "Role JSON contains both permissions and grant/revoke")
        return 200, (await self._users.update_role(name, grant, revoke)).shown()

    async def _delete_roles(self, name: str, request: HttpRequest) -> Answer:
        await self._users.delete_role(name)
        return 200, None


def _is_empty(role: Role) -> bool:
    return not role.read and not role.write


def _shown(user: User) -> dict[str, Any]:
    return {"user": user.name, "roles": None if user.roles is None else list(user.roles)}


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        found = json_in(request)
    except ValueError:
        raise InvalidJson() from None
    if found is not None and not isinstance(found, dict):
        raise InvalidJson()
    return found or {}
