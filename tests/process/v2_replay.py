"""Requests to the v2 API that real etcd 3.4.23 answered, asked of a member again."""

from __future__ import annotations

import http.client
import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.process.member import Member

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "vectors" / "v2.json").read_text(encoding="utf-8")
)["cases"]
SECOND_SERVER = next(n for n, each in enumerate(CASES) if "fresh server" in each.get("note", ""))
EXPIRED = next(n for n, each in enumerate(CASES) if each.get("note") == "expired")
LOOP = next(n for n, each in enumerate(CASES) if each["path"].startswith("/v2/keys/loop"))
LOOP_WRITES = 1010
"""What made the history of the recording too short for what is asked next."""

COMPARED = ("X-Etcd-Index", "Content-Type", "Allow", "Location", "Access-Control-Allow-Origin")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
_TTL = re.compile(r'"ttl":\d+')
_PORT = re.compile(r"127\.0\.0\.1:\d+")
_ID = re.compile(r'"(id|leader)":"[0-9a-f]+"')
_NAME = re.compile(r'"name":"[^"]*"')
_FORM = "application/x-www-form-urlencoded"


def normalised(body: str) -> str:
    """Without what cannot be the same: times, what is left of a TTL, ids, names and ports; the
    children of a directory are in any order."""
    for pattern, instead in (
        (_TIME, "TIME"),
        (_TTL, '"ttl":0'),
        (_PORT, "127.0.0.1:PORT"),
        (_ID, r'"\1":"ID"'),
        (_NAME, '"name":"NAME"'),
    ):
        body = pattern.sub(instead, body)
    try:
        return json.dumps(_ordered(json.loads(body)))
    except ValueError:
        return body


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(each) for each in value), key=json.dumps)
    return value


class Answer:
    """Status, headers and body; nothing if none came in time."""

    def __init__(
        self, status: int = 0, headers: dict[str, str] | None = None, body: str = ""
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.body = body


def ask(
    member: Member, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=2)
    sent = {"Content-Type": _FORM} if body and method != "GET" else {}
    try:
        connection.request(
            method, quote(path, safe="/?=&%:"), body or None, {**sent, **(headers or {})}
        )
        answer = connection.getresponse()
        text = answer.read().decode()
    except TimeoutError:
        return Answer()
    finally:
        connection.close()
    return Answer(answer.status, dict(answer.getheaders()), text)


def replay(member: Member, case: dict[str, Any]) -> Answer:
    return ask(
        member, case["method"], case["path"], case.get("body", ""), case.get("headers") or {}
    )


def wait_expired(member: Member, path: str) -> None:
    for _ in range(100):
        if ask(member, "GET", path).status == 404:
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} does not expire")
