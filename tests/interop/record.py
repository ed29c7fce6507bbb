"""Records what real etcd 3.5.1 answers to gRPC calls: ``python -m tests.interop.record``.

The calls are those of ``tests/vectors/errors.json``, which was recorded once with all services of
etcd in one order; here are those that need no users, locks or elections.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tests.interop.replay import FLAGS, LONG_VALUE_BYTES, RECORDED, Replay, cut, urls_of
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd

SOURCE = Path(__file__).parents[1] / "vectors" / "errors.json"
PEER_URL, CLIENT_URL = "http://127.0.0.1:23301", "http://127.0.0.1:23300"
"""Of the member in the source, and of the one that the recording tells of."""

ELSEWHERE = ("Auth.", "Lock.", "Election.")
WITH_USERS = (234, 346)
"""The first and the last case that ran while there were users."""

SKIPPED = {
    "range sort_target=9": "real 3.5.1 dies of it; an unknown sort target has its own test",
    "snapshot stream": "its bytes depend on the storage",
    "put without quorum (server timeout)": "takes seven seconds",
    "range linearizable without quorum": "takes seven seconds",
    "member list linearizable without quorum": "takes seven seconds",
    "lease grant without quorum": "takes seven seconds",
    "client deadline": "grpcio itself says so",
}


def chosen() -> list[dict[str, Any]]:
    """The calls to record."""
    cases: list[dict[str, Any]] = json.loads(SOURCE.read_text())["cases"]
    first, last = WITH_USERS
    return [
        case
        for number, case in enumerate(cases)
        if case["label"] not in SKIPPED
        and not case["rpc"].startswith(ELSEWHERE)
        and not first <= number <= last
    ]


def main() -> None:
    member = Member(real_etcd(), *FLAGS)
    cases = []
    with contextlib.closing(member):
        member.start()
        urls = urls_of(member, PEER_URL, CLIENT_URL)
        with contextlib.closing(ForeignClient(member.endpoint)) as client:
            for asked in Replay(client, urls).run(chosen()):
                kept = {
                    name: asked.case[name]
                    for name in ("label", "rpc", "metadata", "request", "requests")
                    if name in asked.case
                }
                back = json.dumps(kept | _shortened(asked.answer))
                for theirs, ours in urls.items():
                    back = back.replace(f'"{ours}"', f'"{theirs}"')
                cases.append(back)
    head = {"server": f"etcd 3.5.1, one member, flags: {' '.join(FLAGS)}"}
    lines = ",\n".join(cases)
    RECORDED.write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _shortened(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    too_long = isinstance(value, str) and len(value) > min(LONG_VALUE_BYTES.values())
    return cut(value) if too_long else value


if __name__ == "__main__":
    main()
