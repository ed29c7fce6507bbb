"""One member of the cluster, and its JSON in log entries and in both stores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from etcdtw.ids import format_id, member_id
from etcdtw.v2store.gojson import quote, string_array

MEMBERS_PATH = "/0/members"
REMOVED_PATH = "/0/removed_members"
VERSION_PATH = "/0/version"


@dataclass(frozen=True, slots=True)
class Member:
    """``name`` and ``client_urls`` are empty until the member has started and published them."""

    id: int
    peer_urls: tuple[str, ...]
    name: str = ""
    client_urls: tuple[str, ...] = ()
    is_learner: bool = False

    @property
    def is_started(self) -> bool:
        """Whether it has ever published itself."""
        return bool(self.name)

    @property
    def path(self) -> str:
        """Its directory in the v2 tree."""
        return f"{MEMBERS_PATH}/{format_id(self.id)}"

    def json(self) -> str:
        """The context of its configuration change, and its record in the backend."""
        return (
            f'{{"id":{self.id},"peerURLs":{_urls(self.peer_urls)}'
            + (',"isLearner":true' if self.is_learner else "")
            + (f',"name":{quote(self.name)}' if self.name else "")
            + (f',"clientURLs":{string_array(self.client_urls)}' if self.client_urls else "")
            + "}"
        )

    def raft_attributes_json(self) -> str:
        """``<path>/raftAttributes`` in the v2 tree."""
        learner = ',"isLearner":true' if self.is_learner else ""
        return f'{{"peerURLs":{_urls(self.peer_urls)}{learner}}}'

    def attributes_json(self) -> str:
        """``<path>/attributes`` in the v2 tree: what a member publishes about itself."""
        parts = []
        if self.name:
            parts.append(f'"name":{quote(self.name)}')
        if self.client_urls:
            parts.append(f'"clientURLs":{string_array(self.client_urls)}')
        return "{" + ",".join(parts) + "}"


def founding_member(name: str, peer_urls: Iterable[str], token: str) -> Member:
    """A member of a cluster that is about to be founded."""
    urls = tuple(sorted(peer_urls))
    return Member(member_id(urls, token), urls, name)


def added_member(peer_urls: Iterable[str], unix_seconds: int, is_learner: bool = False) -> Member:
    """A member that is added to a running cluster."""
    urls = tuple(sorted(peer_urls))
    return Member(member_id(urls, "", unix_seconds), urls, is_learner=is_learner)


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """What the context of a configuration change says beside its type and member id."""

    member: Member
    is_promote: bool = False


def promotion_json(identity: int) -> str:
    """The context of a change that turns a learner into a voter."""
    return f'{{"id":{identity},"peerURLs":null,"isPromote":true}}'


def parse_context(data: bytes) -> ChangeContext:
    """Read the context of a change. Raises ValueError when it is not one."""
    fields = parse_object(data)
    try:
        return ChangeContext(_member(fields), fields.get("isPromote", False) is True)
    except TypeError as error:
        raise ValueError(f"not a member: {data!r}: {error}") from error


def parse_member(data: bytes | str) -> Member:
    """Read a member as ``json`` writes it. Raises ValueError when it is not one."""
    try:
        return _member(parse_object(data))
    except TypeError as error:
        raise ValueError(f"not a member: {data!r}: {error}") from error


def parse_object(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for any other JSON."""
    fields = json.loads(data)
    if not isinstance(fields, dict):
        raise ValueError(f"not a JSON object: {data!r}")
    return fields


def _member(fields: dict[str, Any]) -> Member:
    return Member(
        int(fields.get("id", 0)),
        tuple(fields.get("peerURLs") or ()),
        fields.get("name", ""),
        tuple(fields.get("clientURLs") or ()),
        fields.get("isLearner", False) is True,
    )


def _urls(urls: tuple[str, ...]) -> str:
    return string_array(urls) if urls else "null"
