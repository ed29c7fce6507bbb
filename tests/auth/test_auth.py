"""Users, roles and permissions: the rules of etcd, one by one."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply.requests import caller_of, decode_request
from etcdtw.auth import ROOT, AuthStore, Caller, Permissions
from etcdtw.errors import EtcdError
from etcdtw.pb import raft_internal_pb2 as log
from etcdtw.pb import rpc_pb2 as pb
from etcdtw.pb.auth_pb2 import Permission, UserAddOptions
from etcdtw.pb.raft_internal_pb2 import InternalAuthenticateRequest
from etcdtw.storage.backend.memory import MemoryBackend

READ, WRITE, READWRITE = Permission.READ, Permission.WRITE, Permission.READWRITE
_KEYS = [bytes((a,)) + rest for a in b"abcd" for rest in (b"", b"\0", b"m")]
_ENDS = [b"", b"\0", *_KEYS]


class PermissionsTests(SynchronousTestCase):
    def test_union(self) -> None:
        """A request is allowed if every key that it may touch is in some granted range of its
        kind."""
        ranges = st.tuples(
            st.sampled_from((READ, WRITE, READWRITE)),
            st.sampled_from(_KEYS),
            st.sampled_from(_ENDS),
        )

        @settings(max_examples=400, deadline=None, derandomize=True)
        @given(st.lists(ranges, max_size=6), st.sampled_from(_KEYS), st.sampled_from(_ENDS))
        def check(
            granted: list[tuple[Permission.Type, bytes, bytes]], key: bytes, end: bytes
        ) -> None:
            found = Permissions(
                Permission(permType=kind, key=begin, range_end=to) for kind, begin, to in granted
            )
            # Every boundary that can matter, and one key behind all of them.
            universe = sorted({*_KEYS, *(each + b"\0" for each in _KEYS), b"z"})
            wanted = [each for each in universe if _within(each, key, end)]
            if not wanted:
                return  # an inverted request; no model decides it
            for kinds, answer in (
                ((READ, READWRITE), found.may_read(key, end)),
                ((WRITE, READWRITE), found.may_write(key, end)),
            ):
                allowed = all(
                    any(kind in kinds and _within(each, begin, to) for kind, begin, to in granted)
                    for each in wanted
                )
                self.assertEqual(answer, allowed, (granted, key, end))

        check()

    def test_no_key(self) -> None:
        """A permission with an empty key, which etcd 3.5 takes, allows nothing there, however far
        it goes; others of the role stay what they are."""
        for end in (b"", b"\0", b"b"):
            found = Permissions(
                Permission(permType=READWRITE, key=key, range_end=to)
                for key, to in ((b"", end), (b"c", b"d"))
            )
            for key, to in ((b"a", b""), (b"\0", b""), (b"\0", b"\0"), (b"a", b"b"), (b"a", b"d")):
                self.assertFalse(
                    found.may_read(key, to) or found.may_write(key, to), (end, key, to)
                )
            self.assertTrue(found.may_write(b"c", b"d"), end)


def _within(key: bytes, begin: bytes, end: bytes) -> bool:
    if not end:
        return key == begin
    return key >= begin and (end == b"\0" or key < end)


class StoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backend = MemoryBackend()
        self.auth = AuthStore(self.backend, lambda password: b"hash of " + password)

    def refused(self, act: Callable[[], object]) -> str:
        with self.assertRaises(EtcdError) as caught:
            act()
        return str(caught.exception).removeprefix("etcdserver: ")

    def add_user(self, name: bytes, *roles: bytes) -> None:
        self.auth.auth_user_add(log.AuthUserAdd(name=name, password=b"secret"))
        for role in roles:
            self.auth.auth_user_grant_role(log.AuthUserGrantRole(user=name, role=role))

    def add_role(self, name: bytes, *permissions: tuple[Permission.Type, bytes, bytes]) -> None:
        self.auth.auth_role_add(log.AuthRoleAdd(name=name))
        for kind, key, end in permissions:
            self.grant(name, kind, key, end)

    def grant(self, name: bytes, kind: Permission.Type, key: bytes, end: bytes = b"") -> None:
        given = Permission(permType=kind, key=key, range_end=end)
        self.auth.auth_role_grant_permission(log.AuthRoleGrantPermission(name=name, perm=given))

    def enable(self) -> None:
        self.add_user(ROOT, ROOT)
        self.auth.auth_enable(pb.AuthEnableRequest())

    def listed(self, role: bytes) -> list[tuple[Permission.Type, bytes, bytes]]:
        found = self.auth.auth_role_get(log.AuthRoleGet(role=role)).perm
        return [(each.permType, each.key, each.range_end) for each in found]

    def test_refusals(self) -> None:
        """What cannot be done says why, and changes nothing."""
        self.add_role(b"r")
        self.add_user(b"u", b"r")
        auth, revision = self.auth, self.auth.revision
        for expected, act in (
            ("user name is empty", lambda: auth.auth_user_add(log.AuthUserAdd())),
            ("user name already exists", lambda: self.add_user(b"u")),
            ("role name is empty", lambda: self.add_role(b"")),
            ("role name already exists", lambda: self.add_role(b"r")),
            ("user name not found", lambda: auth.auth_user_get(log.AuthUserGet(name=b"x"))),
            (
                "user name not found",
                lambda: auth.auth_user_delete(log.AuthUserDelete(name=b"x")),
            ),
            (
                "role name not found",
                lambda: auth.auth_user_grant_role(log.AuthUserGrantRole(user=b"u", role=b"x")),
            ),
            (
                "role is not granted to the user",
                lambda: auth.auth_user_revoke_role(log.AuthUserRevokeRole(name=b"u", role=b"x")),
            ),
            (
                "permission not given",
                lambda: auth.auth_role_grant_permission(log.AuthRoleGrantPermission(name=b"r")),
            ),
            (
                "permission is not granted to the role",
                lambda: auth.auth_role_revoke_permission(
                    log.AuthRoleRevokePermission(role=b"r", key=b"k")
                ),
            ),
            ("root user does not exist", lambda: auth.auth_enable(pb.AuthEnableRequest())),
            (
                "authentication is not enabled",
                lambda: auth.authenticate(InternalAuthenticateRequest(name=b"u")),
            ),
        ):
            self.assertEqual(self.refused(act), expected)
        self.assertEqual(self.auth.revision, revision)
        self.add_user(ROOT)
        self.assertEqual(
            self.refused(lambda: auth.auth_enable(pb.AuthEnableRequest())),
            "root user does not have root role",
        )

    def test_revision(self) -> None:
        """It begins at 1 and rises by one with every change of users and roles and when auth is
        switched off, not when it is switched on or nothing changes."""
        self.assertEqual(self.auth.revision, 1)
        self.enable()
        self.assertEqual(self.auth.revision, 3)
        again = log.AuthUserGrantRole(user=ROOT, role=ROOT)
        self.auth.auth_user_grant_role(again)
        self.auth.auth_enable(pb.AuthEnableRequest())
        self.assertEqual(self.auth.revision, 3)
        for _ in range(2):
            self.auth.auth_disable(pb.AuthDisableRequest())
        self.assertEqual(self.auth.revision, 4)

    def test_restart(self) -> None:
        """Everything is found again in the backend."""
        self.add_role(b"r", (READ, b"a", b"b"))
        self.add_user(b"u", b"r")
        self.enable()
        again = AuthStore(self.backend, lambda password: b"")
        self.assertEqual((again.enabled, again.revision), (True, self.auth.revision))
        again.check_read(Caller(b"u", again.revision), b"a")

    def test_checks(self) -> None:
        """While auth is off everybody may everything; then a name, a current revision and a
        permission are needed, or the role root."""
        nobody = Caller(b"", 0)
        self.auth.check_write(nobody, b"k")
        self.auth.check_admin(nobody)
        self.add_role(b"r", (READWRITE, b"k", b""), (READ, b"a", b"c"))
        self.add_user(b"u", b"r")
        self.enable()
        user, root = Caller(b"u", self.auth.revision), Caller(ROOT, self.auth.revision)
        for caller, key, end, expected in (
            (user, b"k", b"", ""),
            (user, b"a", b"b", "permission denied"),
            (user, b"x", b"", "permission denied"),
            (Caller(b"gone", 9), b"k", b"", "permission denied"),
            (Caller(b"u", 1), b"k", b"", "revision of auth store is old"),
            (nobody, b"k", b"", "user name is empty"),
            (root, b"", b"\0", ""),
        ):
            if expected:
                self.assertEqual(
                    self.refused(lambda: self.auth.check_write(caller, key, end)),  # noqa: B023
                    expected,
                )
            else:
                self.auth.check_write(caller, key, end)
        self.auth.check_read(user, b"a", b"b")
        self.auth.check_admin(root)
        self.assertEqual(self.refused(lambda: self.auth.check_admin(user)), "permission denied")
        self.assertEqual(self.refused(lambda: self.auth.check_admin(nobody)), "user name is empty")

    def test_permissions_follow_changes(self) -> None:
        """A grant, a revocation and a deletion count from the next request on."""
        self.add_role(b"r")
        self.add_user(b"u", b"r")
        self.enable()

        def may() -> bool:
            try:
                self.auth.check_write(Caller(b"u", self.auth.revision), b"k")
            except EtcdError:
                return False
            return True

        self.assertFalse(may())
        self.grant(b"r", WRITE, b"k")
        self.assertTrue(may())
        self.auth.auth_role_revoke_permission(log.AuthRoleRevokePermission(role=b"r", key=b"k"))
        self.assertFalse(may())
        self.grant(b"r", WRITE, b"k")
        self.auth.auth_role_delete(log.AuthRoleDelete(role=b"r"))
        self.assertFalse(may())
        found = self.auth.auth_user_get(log.AuthUserGet(name=b"u"))
        self.assertEqual(list(found.roles), [])

    def test_root_is_protected(self) -> None:
        """While auth is on neither the user nor the role root can be taken away."""
        self.enable()
        auth = self.auth
        for act in (
            lambda: auth.auth_user_delete(log.AuthUserDelete(name=ROOT)),
            lambda: auth.auth_role_delete(log.AuthRoleDelete(role=ROOT)),
            lambda: auth.auth_user_revoke_role(log.AuthUserRevokeRole(name=ROOT, role=ROOT)),
        ):
            self.assertEqual(self.refused(act), "invalid auth management")

    def test_grants_as_3_5_1(self) -> None:
        """Permissions are in the order of their keys; only the first with a key is overwritten, so
        others may be listed twice."""
        self.add_role(b"r")
        for key, end in ((b"k", b"m"), (b"k", b"l"), (b"k", b"m"), (b"a", b"b"), (b"k", b"l")):
            self.grant(b"r", READ, key, end)
        before = [(READ, b"a", b"b"), (READ, b"k", b"m"), *[(READ, b"k", b"l")] * 2]
        self.assertEqual(self.listed(b"r"), before)
        self.grant(b"r", READWRITE, b"k", b"l")
        self.assertEqual(self.listed(b"r"), [*before, (READWRITE, b"k", b"l")])

    def test_names_of_any_bytes(self) -> None:
        """etcd takes names that are no UTF-8, and so do entries of the log and the backend."""
        name = b"\xff\xfe"
        self.add_role(name, (READWRITE, b"k", b""))
        self.add_user(name, name)
        self.enable()
        entry = log.InternalRaftRequest(header=log.RequestHeader(ID=1, username=name))
        entry.put.key = b"k"
        data = entry.SerializeToString()
        self.assertEqual(decode_request(data, 1), ("put", entry.put))
        again = AuthStore(self.backend, lambda password: b"")
        again.check_write(Caller(caller_of(data).name, again.revision), b"k")
        self.assertEqual(
            again.auth_user_list(pb.AuthUserListRequest()).users, ["root", "\ufffd" * 2]
        )

    def test_passwords(self) -> None:
        """A hash in the entry is kept as it is; a plain password of an older member is hashed; a
        user without one can never authenticate."""
        hashed = b64encode(b"$2a$10$abc")
        self.auth.auth_user_add(log.AuthUserAdd(name=b"new", hashedPassword=hashed))
        self.auth.auth_user_add(log.AuthUserAdd(name=b"old", password=b"p"))
        nobody = log.AuthUserAdd(
            name=b"none", password=b"p", options=UserAddOptions(no_password=True)
        )
        self.auth.auth_user_add(nobody)
        stored = dict(self.backend.scan(b"authUsers", b"", None))
        self.assertIn(b"$2a$10$abc", stored[b"new"])
        self.assertIn(b"hash of p", stored[b"old"])
        self.assertEqual(stored[b"none"], b'\n\x04none"\x02\x08\x01')
        self.enable()
        for name in (b"none", b"gone"):
            self.assertEqual(
                self.refused(
                    lambda: self.auth.authenticate(
                        InternalAuthenticateRequest(name=name)  # noqa: B023
                    )
                ),
                "authentication failed, invalid user ID or password",
            )
