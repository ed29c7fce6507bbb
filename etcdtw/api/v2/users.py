"""Users and roles of the v2 API: what the tree under ``/2`` says, and how it is changed."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from etcdtw.api.v2.parsing import KeyRequest
from etcdtw.v2store import Event, V2Code, V2Error, V2Store

ROOT = "/2"
ROOT_ROLE, GUEST_ROLE = "root", "guest"
KNOWN_PASSWORDS_MAX = 1000
_SWITCH = f"{ROOT}/enabled"

Write = Callable[[KeyRequest, Callable[[object], None]], None]


class Passwords(Protocol):
    """Hashes take long, and are made and checked where nobody waits for them."""

    def hash(self, password: str) -> Deferred[str]: ...

    def check(self, password: str, hashed: str) -> Deferred[bool]: ...


class AuthError(Exception):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"auth: {text}")
        self.status = status


class Refused(AuthError):
    """A refusal in words of its own."""

    def __init__(self, status: int, text: str) -> None:
        Exception.__init__(self, text)
        self.status = status


class InvalidJson(Refused):
    """A body whose parts are not what they should be."""

    def __init__(self) -> None:
        super().__init__(400, "Invalid JSON in request body.")


@dataclass(frozen=True, slots=True)
class Role:
    """What may be read and written: keys, or all that begins like a pattern up to its ``*``."""

    name: str
    read: tuple[str, ...] | None = None
    write: tuple[str, ...] | None = None

    def allows(self, key: str, writing: bool, recursive: bool) -> bool:
        if self.name == ROOT_ROLE:
            return True
        for pattern in (self.write if writing else self.read) or ():
            if pattern.endswith("*"):
                if key.startswith(pattern[:-1]):
                    return True
            elif key == pattern and not recursive:
                return True
        return False

    def shown(self) -> dict[str, Any]:
        return {"role": self.name, "permissions": {"kv": _permissions(self.read, self.write)}}


def _permissions(
    read: Sequence[str] | None, write: Sequence[str] | None
) -> dict[str, list[str] | None]:
    # Go tells a list that was never there from an empty one.
    return {
        "read": None if read is None else list(read),
        "write": None if write is None else list(write),
    }


EVERYTHING = Role(ROOT_ROLE, ("/*",), ("/*",))
GUEST = Role(GUEST_ROLE, ("/*",), ("/*",))


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password_hash: str = ""
    roles: tuple[str, ...] | None = None

    def stored(self) -> str:
        fields: dict[str, Any] = {"user": self.name}
        if self.password_hash:
            fields["password"] = self.password_hash
        fields["roles"] = None if self.roles is None else list(self.roles)
        return compact(fields)


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class Users:
    """Reads come from this member's tree, changes go through the log."""

    def __init__(
        self,
        store: V2Store,
        write: Write,
        passwords: Passwords,
    ) -> None:
        self._store = store
        self._write = write
        self._passwords = passwords
        self._known: set[tuple[str, bytes]] = set()

    # --- who may what ----------------------------------------------------------------------------

    @property
    def enabled(self) -> bool:
        """Whether callers have to be somebody."""
        return self._store.peek(_SWITCH) == "true"

    async def caller(self, authorization: bytes) -> User | None:
        """Who shows this header, if his password is right."""
        kind, _, text = authorization.partition(b" ")
        if kind.lower() != b"basic":
            return None
        try:
            name, _, password = b64decode(text, validate=True).decode().partition(":")
            user = self.user(name)
        except (ValueError, AuthError):
            return None
        proof = user.password_hash, hashlib.sha256(password.encode()).digest()
        if proof not in self._known:
            if not await self._passwords.check(password, user.password_hash):
                return None
            if len(self._known) >= KNOWN_PASSWORDS_MAX:
                self._known.clear()
            self._known.add(proof)
        return user

    async def is_root(self, authorization: bytes) -> bool:
        """Whether a caller may change members, users and roles."""
        if not self.enabled:
            return True
        user = await self.caller(authorization)
        return user is not None and ROOT_ROLE in (user.roles or ())

    async def may(self, authorization: bytes, key: str, writing: bool, recursive: bool) -> bool:
        """Whether a caller may do that to a key."""
        if not self.enabled:
            return True
        if not authorization:
            # etcd does not ask whether a guest means all that is below a key.
            return self._allows((GUEST_ROLE,), key, writing, False)
        user = await self.caller(authorization)
        return user is not None and self._allows(user.roles or (), key, writing, recursive)

    def _allows(self, roles: Sequence[str], key: str, writing: bool, recursive: bool) -> bool:
        for name in roles:
            try:
                if self.role(name).allows(key, writing, recursive):
                    return True
            except AuthError:
                continue
        return False

    # --- looking ---------------------------------------------------------------------------------

    def user_names(self) -> list[str]:
        return sorted(self._names("users"))

    def role_names(self) -> list[str]:
        return sorted([ROOT_ROLE, *self._names("roles")])

    def user(self, name: str) -> User:
        found = self._read("users", name, f"User {name} does not exist.")
        roles = found.get("roles")
        user = User(
            str(found.get("user", name)),
            str(found.get("password", "")),
            None if roles is None else tuple(map(str, roles)),
        )
        return _with_root_role(user)

    def role(self, name: str) -> Role:
        if name == ROOT_ROLE:
            return EVERYTHING
        return role_from_json(self._read("roles", name, f"Role {name} does not exist."))

    def _names(self, kind: str) -> list[str]:
        try:
            found = self._store.get(f"{ROOT}/{kind}").node.nodes or ()
        except V2Error:
            return []
        return [each.key.rpartition("/")[2] for each in found]

    def _read(self, kind: str, name: str, absent: str) -> dict[str, Any]:
        if "/" in name or name in ("", ".", ".."):
            # A caller's own words: they must not lead to a key that he may have written himself.
            raise AuthError(404, absent)
        path = f"{kind}/{name}"
        try:
            found = json.loads(self._store.get(f"{ROOT}/{path}").node.value or "null")
        except V2Error as error:
            if error.code is V2Code.KEY_NOT_FOUND:
                raise AuthError(404, absent) from None
            raise
        if not isinstance(found, dict):
            raise AuthError(500, f"{path} is no record")
        return found

    # --- changing --------------------------------------------------------------------------------

    async def create_user(self, user: User, password: str) -> User:
        user = _with_root_role(user)
        if not password:
            text = f"Cannot create user {user.name} with an empty password"
            raise AuthError(400, text)
        made = replace(user, password_hash=await self._passwords.hash(password))
        await self._create(f"users/{user.name}", made.stored(), f"User {user.name} already exists.")
        return made

    async def update_user(
        self, name: str, password: str, grant: Sequence[str], revoke: Sequence[str]
    ) -> User:
        old = self.user(name)
        roles = set(old.roles or ())
        for each in grant:
            if each in roles:
                raise AuthError(409, f"Granting duplicate role {each} for user {name}")
            roles.add(each)
        for each in revoke:
            if each not in roles:
                raise AuthError(409, f"Revoking ungranted role {each} for user {name}")
            roles.remove(each)
        new_hash = old.password_hash
        if password:
            new_hash = await self._passwords.hash(password)
        new = User(name, new_hash, tuple(sorted(roles)))
        if new == old:
            raise AuthError(400, "User not updated. Use grant/revoke/password to update the user.")
        await self._put(f"users/{name}", new.stored(), prev_exist=True)
        return new

    async def delete_user(self, name: str) -> None:
        if self.enabled and name == ROOT_ROLE:
            raise AuthError(403, "Cannot delete root user while auth is enabled.")
        await self._delete(f"users/{name}", f"User {name} does not exist")

    async def create_role(self, role: Role) -> None:
        self._not_root(role.name)
        text = compact(role.shown())
        await self._create(f"roles/{role.name}", text, f"Role {role.name} already exists.")

    async def update_role(self, name: str, grant: Role, revoke: Role) -> Role:
        self._not_root(name)
        old = self.role(name)
        lists = []
        for what in ("read", "write"):
            have = set(getattr(old, what) or ())
            for each in getattr(grant, what) or ():
                if each in have:
                    raise AuthError(409, f"Granting duplicate {what} permission {each}")
                have.add(each)
            lists.append(tuple(sorted(have - set(getattr(revoke, what) or ()))))
        new = Role(name, *lists)
        if new == old:
            raise AuthError(400, "Role not updated. Use grant/revoke to update the role.")
        await self._put(f"roles/{name}", compact(new.shown()), prev_exist=True)
        return new

    async def delete_role(self, name: str) -> None:
        self._not_root(name)
        await self._delete(f"roles/{name}", f"Role {name} doesn't exist.")

    async def enable(self) -> None:
        if self.enabled:
            raise AuthError(409, "already enabled")
        try:
            self.user(ROOT_ROLE)
        except AuthError:
            raise AuthError(409, "No root user available, please create one") from None
        try:
            self.role(GUEST_ROLE)
        except AuthError:
            await self.create_role(GUEST)
        await self._put("enabled", "true", prev_exist=True)

    async def disable(self) -> None:
        if not self.enabled:
            raise AuthError(409, "already disabled")
        await self._put("enabled", "false", prev_exist=True)

    def _not_root(self, name: str) -> None:
        if name == ROOT_ROLE:
            raise AuthError(403, f"Cannot modify role {name}: is root role.")

    # --- writing ---------------------------------------------------------------------------------

    async def _create(self, path: str, value: str, present: str) -> None:
        await self._make_directories()
        try:
            await self._put(path, value, prev_exist=False)
        except V2Error as error:
            if error.code is V2Code.NODE_EXIST:
                raise AuthError(409, present) from None
            raise

    async def _make_directories(self) -> None:
        """With the first change: as etcd has them."""
        for path, is_dir in (("", True), ("/users", True), ("/roles", True), ("/enabled", False)):
            try:
                self._store.get(ROOT + path)
            except V2Error:
                asked = KeyRequest(
                    method="PUT",
                    path=ROOT + path,
                    is_dir=is_dir,
                    value="" if is_dir else "false",
                    prev_exist=False,
                )
                try:
                    await self._do(asked)
                except V2Error as error:
                    if error.code is not V2Code.NODE_EXIST:
                        raise

    async def _put(self, path: str, value: str, *, prev_exist: bool) -> None:
        await self._do(
            KeyRequest(method="PUT", path=f"{ROOT}/{path}", value=value, prev_exist=prev_exist)
        )

    async def _delete(self, path: str, absent: str) -> None:
        try:
            await self._do(KeyRequest(method="DELETE", path=f"{ROOT}/{path}"))
        except V2Error as error:
            if error.code is V2Code.KEY_NOT_FOUND:
                raise AuthError(404, absent) from None
            raise

    async def _do(self, asked: KeyRequest) -> None:
        done: Deferred[object] = Deferred()
        self._write(asked, done.callback)
        result = await done
        if not isinstance(result, Event):
            assert isinstance(result, Exception), f"no answer: {result!r}"
            raise result


def _with_root_role(user: User) -> User:
    """Root has his role whatever is stored: nobody can take it from him."""
    roles = user.roles or ()
    if user.name != ROOT_ROLE or ROOT_ROLE in roles:
        return user
    return replace(user, roles=(*roles, ROOT_ROLE))


def role_from_json(found: dict[str, Any]) -> Role:
    """A role as it is sent and stored. AuthError if it is none."""
    kv = _map_in(_map_in(found, "permissions"), "kv")
    return Role(text_in(found, "role"), strings(kv.get("read")), strings(kv.get("write")))


def text_in(found: dict[str, Any], name: str) -> str:
    """A text, empty where there is none. AuthError."""
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidJson()
    return value or ""


def _map_in(found: dict[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidJson()
    return value or {}


def strings(value: object) -> tuple[str, ...] | None:
    """A list of texts, or None where there is none. AuthError."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidJson()
    return tuple(value)
