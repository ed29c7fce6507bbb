"""The reset of a token: its registrations go, its size stays, and its URL is good for one more try.

A cluster that came together must not be founded a second time, so nothing may come between the look
at who has registered and the deletion. v3 registrations go in one transaction, which is none if
somebody came meanwhile; v2 ones come by way of the service's pages, which let them wait.

Members that wait see their registration go. Those of etcdtw end with that reason. etcd 3.4 and 3.5
count a deletion as somebody who came, so they lack a name when their count is full, and end with
that. etcd 3.6 does not look at deletions, and would found a cluster together with the next who
come: marks that are no members take the places that are left, so that its members end too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from etcdtw.api.discovery.owners import is_owner
from etcdtw.api.discovery.places import (
    v2_directory,
    v2_size,
    v3_marks,
    v3_members,
    v3_owner,
    v3_size,
)
from etcdtw.api.v2.parsing import KeyRequest
from etcdtw.client import Client, created
from etcdtw.client.txn import delete, get, put
from etcdtw.errors import EtcdError
from etcdtw.v2store import Event, V2Code, V2Error

MARKS_MAX = 64
"""A transaction has room for 128 operations. Where more are missing, nobody waits in earnest."""
_MARK = "reset=by-the-owner"
"""Read as a member it has a bad URL."""

log = Logger(namespace="etcdtw.discovery")


class Refused(Exception):
    """Why there is no reset: the status of the answer, and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Writes(Protocol):
    """What a reset takes of the v2 keys."""

    def write(self, asked: KeyRequest, done: Callable[[object], None]) -> None: ...


class TokenReset:
    """One token, for whoever has the secret."""

    def __init__(self, token: str, keys: Writes, client: Client) -> None:
        self._token = token
        self._keys = keys
        self._client = client

    async def check_owner(self, secret: str) -> None:
        """Refused for who is not, and for a token that there is not."""
        found = (await self._client.kv.get(v3_owner(self._token))).kvs
        if not found:
            if await self._directory() is None:
                raise Refused(404, "there is no such token, or no more")
            raise Refused(403, "this token has no owner: it was made before the service knew any")
        if not secret:
            raise Refused(401, "a reset needs the owner's secret: Authorization: Bearer SECRET")
        if not is_owner(secret, found[0].value.decode(errors="replace")):
            raise Refused(403, "this is not the secret that was given out with the token")

    async def clear(self, force: bool) -> str:
        """A sentence that says what was done; no v2 registration comes meanwhile. Refused."""
        directory = await self._directory() or []
        wanted = await self._v2(KeyRequest("GET", v2_size(self._token), quorum=True))
        v2_wanted = _number(wanted.node.value) if wanted is not None else 0
        looked = await self._client.kv.txn().then(
            get(v3_size(self._token)), get(v3_members(self._token), prefix=True)
        ).commit()  # fmt: skip
        sized, listed = (each.response_range.kvs for each in looked.responses)
        v3_registered = sum(b"=" in each.value for each in listed)
        v3_wanted = _number(sized[0].value.decode(errors="replace")) if sized else 0
        if not force:
            self._check_incomplete(len(directory), v2_wanted)
            self._check_incomplete(v3_registered, v3_wanted)
        missing = v3_wanted - v3_registered if v3_registered else 0
        await self._clear_v3(looked.header.revision, missing)
        for path in directory:
            await self._v2(KeyRequest("DELETE", path, is_dir=True, recursive=True))
        number = len(directory) + len(listed)
        log.info("a token was reset", token=self._token, registrations=number, force=force)
        size = v2_wanted or v3_wanted
        gone = "1 registration is gone" if number == 1 else f"{number} registrations are gone"
        return f"{gone}; the URL is good for a new cluster of {size}"

    def _check_incomplete(self, registered: int, wanted: int) -> None:
        if 0 < wanted <= registered:
            raise Refused(
                409,
                f"all {wanted} members have registered: their cluster may be running, and could be "
                "founded a second time. If it never came up, and no member of it is left, force "
                "the reset",
            )

    async def _clear_v3(self, revision: int, missing: int) -> None:
        """All registrations of this revision; there must be no later one."""
        members, marks = v3_members(self._token), v3_marks(self._token)
        placed = [put(f"{marks}{n}", _MARK) for n in range(min(missing, MARKS_MAX))]
        done = await (
            self._client.kv.txn()
            .when(created(members, prefix=True) < revision + 1)
            .then(delete(members, prefix=True), *placed)
            .commit()
        )
        if not done.succeeded:
            raise Refused(409, "somebody has registered at this moment; try again")
        await self._client.kv.delete(marks, prefix=True)

    async def _directory(self) -> list[str] | None:
        """The paths of v2 registrations; None if there is no such token."""
        listed = await self._v2(KeyRequest("GET", v2_directory(self._token), quorum=True))
        return None if listed is None else [each.key for each in listed.node.nodes or []]

    async def _v2(self, asked: KeyRequest) -> Event | None:
        """None if there is no such key. EtcdError, V2Error."""
        done: Deferred[Any] = Deferred()
        self._keys.write(asked, done.callback)
        result: object = await done
        if isinstance(result, V2Error) and result.code == V2Code.KEY_NOT_FOUND:
            return None
        if isinstance(result, V2Error | EtcdError):
            raise result
        assert isinstance(result, Event), f"no answer: {result!r}"
        return result


def _number(text: str | None) -> int:
    """0 for what is none that a cluster could have."""
    return int(text) if text and re.fullmatch("[0-9]{1,19}", text) else 0
