"""``dig +noall +answer [SRV] NAME …`` in the form of the real one, where that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer, task
from twisted.names import client, dns

KINDS = {"SRV": dns.SRV, "A": dns.A, "AAAA": dns.AAAA}


async def answers(reactor: Any, words: list[str]) -> None:
    kinds = [word for word in words if word in KINDS]
    names = [word for word in words if word not in KINDS and word[0] not in "+@"]
    asked = Path("/etc/resolv.conf").read_text().split()
    at = [word[1:] for word in words if word[0] == "@"] or [asked[asked.index("nameserver") + 1]]
    resolver = client.Resolver(servers=[(at[0], 53)], reactor=reactor)
    for name in names:
        query = dns.Query(name, KINDS[kinds[0] if kinds else "A"], dns.IN)
        found, _, _ = await resolver.query(query)
        for each in found:
            print(line(each))


def line(header: Any) -> str:
    payload = header.payload
    if header.type == dns.SRV:
        said = f"{payload.priority} {payload.weight} {payload.port} {payload.target}."
    else:
        said = payload.dottedQuad() if header.type == dns.A else str(payload.address)
    return f"{header.name}.\t{header.ttl}\tIN\t{dns.QUERY_TYPES[header.type]}\t{said}"


if __name__ == "__main__":
    task.react(lambda reactor: defer.ensureDeferred(answers(reactor, sys.argv[1:])))
