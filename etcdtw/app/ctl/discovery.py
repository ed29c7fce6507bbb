"""``etcdtw ctl discovery``: tokens of a discovery service, for those who own them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from etcdtw.app.ctl.finishing import finish
from etcdtw.app.ctl.tokens import ANSWER_SECONDS, make_token, reset_token
from etcdtw.bootstrap.from_http import system_tls
from etcdtw.peer.calling import Calls, HttpCaller

DEFAULT_SERVICE = "http://127.0.0.1:8087"
DEFAULT_SIZE = 3
OWNER_FILE_MODE = 0o600

T = TypeVar("T")


def add_commands(commands: Any) -> None:
    """Put ``discovery`` with its own commands among those of ``etcdtw ctl``."""
    discovery = commands.add_parser("discovery", help="get or reset a discovery service's token")
    actions = discovery.add_subparsers(required=True, metavar="COMMAND")

    new = actions.add_parser(
        "new",
        help="get a URL for --discovery",
        description="Prints the URL on stdout. The owner's secret, by which the token can be "
        "reset, goes to the file, or to stderr.",
    )
    new.add_argument("--size", type=int, default=DEFAULT_SIZE, help=f"members ({DEFAULT_SIZE})")
    new.add_argument("--service", default=DEFAULT_SERVICE, help=f"its URL ({DEFAULT_SERVICE})")
    new.add_argument("--owner-file", default="", help="a new file, for nobody else to read")
    new.set_defaults(do=_new)

    reset = actions.add_parser(
        "reset",
        help="clear the registrations of a bootstrap that failed half-way",
        description="The URL is good for a new cluster of the same size then. Members that still "
        "wait for others end. A token whose members have all registered is not reset.",
    )
    reset.add_argument("url", metavar="URL", help="as it was given to --discovery")
    secret = reset.add_mutually_exclusive_group(required=True)
    secret.add_argument("--owner", metavar="SECRET", help="seen by all who may list processes")
    secret.add_argument("--owner-file", metavar="PATH", help="as new has written it")
    reset.add_argument(
        "--force",
        action="store_true",
        help="also if all members have registered: none of them may be left, or their cluster is "
        "founded twice",
    )
    reset.set_defaults(do=_reset)


def _new(found: argparse.Namespace) -> None:
    if not found.owner_file:
        made = _call(lambda calls: make_token(calls, found.service, found.size))
        if made.secret:
            sys.stderr.write(f"owner's secret: {made.secret}\n")
        sys.stdout.write(f"{made.url}\n")
        return
    # Before a token is made that could not be kept.
    handle = os.open(found.owner_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE_MODE)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            made = _call(lambda calls: make_token(calls, found.service, found.size))
            if not made.secret:
                raise ValueError(f"{made.url} was made, and has no owner at this service")
            file.write(f"{made.secret}\n")
    except BaseException:
        os.unlink(found.owner_file)
        raise
    sys.stdout.write(f"{made.url}\n")


def _reset(found: argparse.Namespace) -> None:
    secret = found.owner
    if found.owner_file is not None:
        with open(found.owner_file, encoding="utf-8") as file:
            secret = file.read().strip()
    sentence = _call(lambda calls: reset_token(calls, found.url, secret, found.force))
    sys.stdout.write(f"{sentence}\n")


def _call(work: Callable[[Calls], Coroutine[Any, Any, T]]) -> T:
    from etcdtw.app.main import choose_reactor

    reactor = choose_reactor()
    calls = HttpCaller(reactor, ANSWER_SECONDS, tls=system_tls)
    try:
        return finish(reactor, lambda: work(calls))
    finally:
        calls.stop()
