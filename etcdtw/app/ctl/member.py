"""``etcdtw ctl member``: what takes several steps with the members of a running cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from etcdtw.app.ctl.finishing import finish
from etcdtw.app.ctl.replacing import Refused, Wanted, replace_member
from etcdtw.client import Client
from etcdtw.client.endpoints import Connector
from etcdtw.config.urls import parse_url_list
from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import Member

ANSWER_SECONDS = 3.0
CHANGE_SECONDS = 10.0
CATCH_UP_MINUTES = 10.0


def add_commands(commands: Any) -> None:
    """Put ``member`` with its own commands among those of ``etcdtw ctl``."""
    member = commands.add_parser("member", help="change the members of a running cluster")
    actions = member.add_subparsers(required=True, metavar="COMMAND")
    replacing = actions.add_parser(
        "replace",
        help="put a new member in the place of one",
        description="Adds the new member as a learner, waits until it has caught up, gives it its "
        "vote and removes the old one; one that does not answer is removed first. Whatever "
        "interrupts it, the same command goes on.",
    )
    replacing.add_argument("old", metavar="OLD", help="id or name of the member that is to go")
    replacing.add_argument("--name", required=True, help="of the new member")
    replacing.add_argument("--peer-urls", required=True, help="of the new member")
    replacing.add_argument("--removed", action="store_true", help="OLD is not a member any more")
    replacing.add_argument(
        "--catch-up-minutes",
        type=float,
        default=CATCH_UP_MINUTES,
        help=f"how long the new member may take to start and catch up ({CATCH_UP_MINUTES:g})",
    )
    replacing.add_argument("--endpoints", default="127.0.0.1:2379")
    replacing.add_argument("--cacert", default="", help="authorities of https endpoints")
    replacing.add_argument("--cert", default="")
    replacing.add_argument("--key", default="")
    replacing.add_argument("--insecure-skip-tls-verify", action="store_true")
    replacing.set_defaults(do=_replace)


def _replace(found: argparse.Namespace) -> None:
    from etcdtw.app.main import choose_reactor

    reactor = choose_reactor()
    wanted = Wanted(
        found.old,
        found.name,
        parse_url_list(found.peer_urls.split(",")),
        60 * found.catch_up_minutes,
        found.removed,
    )
    clients = Clients(reactor, found.endpoints.split(","), _connector(reactor, found))
    try:
        finish(reactor, lambda: replace_member(clients, wanted, _say, reactor))
    except (EtcdError, Refused) as error:
        again = "" if isinstance(error, Refused) else "; the same command goes on from here"
        raise ValueError(f"{error}{again}") from None


def _say(text: str) -> None:
    print(text, flush=True)


def _connector(reactor: Any, found: argparse.Namespace) -> Connector | None:
    if "https://" not in found.endpoints:
        return None
    from etcdtw.client.tls import tls_files

    return tls_files(
        reactor,
        ca=found.cacert,
        cert=found.cert,
        key=found.key,
        verify=not found.insecure_skip_tls_verify,
    )


class Clients:
    """The cluster by way of some endpoints, and its members each by way of its own."""

    def __init__(self, reactor: Any, endpoints: Sequence[str], connector: Connector | None) -> None:
        self._reactor = reactor
        self._connector = connector
        self._any = self._client(endpoints, CHANGE_SECONDS)

    async def members(self) -> list[Member]:
        return list((await self._any.cluster.members()).members)

    async def answering(self, members: Sequence[Member]) -> set[int]:
        asked = [Deferred.fromCoroutine(self._answers(each)) for each in members]
        found = await DeferredList(asked)
        return {each.ID for each, (_, answers) in zip(members, found, strict=True) if answers}

    async def _answers(self, member: Member) -> bool:
        if not member.clientURLs:
            return False  # it never was started
        client = self._client(member.clientURLs, ANSWER_SECONDS)
        try:
            return (await client.maintenance.status()).header.member_id == member.ID
        except EtcdError:
            return False
        finally:
            client.close()

    async def add_learner(self, peer_urls: list[str]) -> None:
        await self._any.cluster.add(peer_urls, learner=True)

    async def promote(self, member_id: int) -> None:
        await self._any.cluster.promote(member_id)

    async def remove(self, member_id: int) -> None:
        await self._any.cluster.remove(member_id)

    def _client(self, endpoints: Sequence[str], seconds: float) -> Client:
        return Client(
            self._reactor,
            endpoints,
            connector=self._connector,
            timeout_seconds=seconds,
        )
