"""A case of the gateway asked of a member; what differs from member to member is left out."""

from __future__ import annotations

import http.client
import re
from typing import Any

from tests.gateway.cases import Case

OPEN_SECONDS = 0.5
"""A stream that says nothing for so long stays open."""

SHOWN_BODY_BYTES = 200

_LEFT_OUT = frozenset({"Date", "Content-Length", "Connection"})
_MEMBERS_OWN = re.compile(
    r'"(?:cluster_id|member_id|leader|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":"\d+",?'
)
_GRANTED = re.compile(r'"ID":"\d{5,}"')


def ask(port: int, case: Case) -> dict[str, Any]:
    """The answer, or None as status while there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=OPEN_SECONDS)
    body = None if case.body is None else case.body.encode()
    try:
        connection.request(case.method, case.path, body=body, headers=case.headers)
        try:
            answer = connection.getresponse()
        except TimeoutError:
            return {"status": None}
        text, is_open = _read(answer)
        headers = {name: value for name, value in answer.getheaders() if name not in _LEFT_OUT}
        return {
            "status": answer.status,
            "headers": dict(sorted(headers.items())),
            "response": comparable(text),
            "stream_open": is_open,
        }
    finally:
        connection.close()


def comparable(text: str) -> str:
    """The text without what is each member's own."""
    return _GRANTED.sub('"ID":"N"', _MEMBERS_OWN.sub("", text))


def _read(answer: http.client.HTTPResponse) -> tuple[str, bool]:
    pieces = []
    try:
        while piece := answer.read1():
            pieces.append(piece)
        is_open = False
    except TimeoutError:
        is_open = True
    return b"".join(pieces).decode(), is_open


def shown(case: Case) -> str:
    body = "" if case.body is None else case.body[:SHOWN_BODY_BYTES]
    extra = "".join(f" {name}: {value}" for name, value in case.headers.items())
    return f"{case.method} {case.path}{extra} {body}"
