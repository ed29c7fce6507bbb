"""What the owner of a token asks its discovery service for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from etcdtw.api.discovery.owners import OWNER_HEADER
from etcdtw.peer.calling import Answered, Calls, why_no_answer

ANSWER_SECONDS = 10.0
_SENTENCE_MAX = 500
_SECRET = re.compile("[!-~]+")


class Made(NamedTuple):
    """A token's URL, and its owner's secret; empty if the service gives none."""

    url: str
    secret: str


async def make_token(calls: Calls, service: str, size: int) -> Made:
    """A new token at the service whose pages begin with this URL. ValueError."""
    _check_url(service)
    if size < 1:
        raise ValueError(f"a cluster of {size} members cannot be")
    asked = f"{service.rstrip('/')}/new?size={size}"
    answered = await _answer(calls, b"GET", asked, {})
    url = answered.body.decode("utf-8", "replace").strip()
    if answered.status != 200:
        raise ValueError(f"{asked} answered {answered.status}{_sentence(answered)}")
    if urlsplit(url).scheme not in ("http", "https") or re.search(r"\s", url):
        raise ValueError(f"{asked} answered no URL: it is no discovery service")
    return Made(url, answered.headers.get(OWNER_HEADER, b"").decode("latin-1"))


async def reset_token(calls: Calls, url: str, secret: str, force: bool) -> str:
    """Clear a token's registrations; the service's sentence about it. ValueError."""
    _check_url(url)
    if "/v2/keys/" in urlsplit(url).path:
        raise ValueError(_no_service(url))
    if not _SECRET.fullmatch(secret):
        raise ValueError("this is no owner's secret")
    asked = f"{url.rstrip('/')}?reset=true{'&force=true' if force else ''}"
    headers = {b"authorization": b"Bearer " + secret.encode()}
    answered = await _answer(calls, b"DELETE", asked, headers)
    if answered.status != 200:
        if _is_etcd_error(answered.body):
            raise ValueError(_no_service(url))
        raise ValueError(f"{url} answered {answered.status}{_sentence(answered)}")
    return answered.body.decode("utf-8", "replace").strip()


async def _answer(
    calls: Calls, method: bytes, url: str, headers: Mapping[bytes, bytes]
) -> Answered:
    try:
        return await calls.call(method, url, headers, b"", ANSWER_SECONDS)
    except Exception as error:  # whatever keeps it from answering is told
        raise ValueError(f"{url}: {why_no_answer(error)}") from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"{url!r} is no http or https URL of a discovery service")
    if parts.username is not None:
        raise ValueError(f"a URL with a user name cannot be called: {url}")


def _no_service(url: str) -> str:
    return (
        f"{url} is of an etcd, or of a service that knows no resets: whoever may write there "
        "deletes the registrations himself, all keys below the token but _config"
    )


def _is_etcd_error(body: bytes) -> bool:
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return isinstance(found, dict) and "errorCode" in found


def _sentence(answered: Answered) -> str:
    text = answered.body.decode("utf-8", "replace").strip()[:_SENTENCE_MAX]
    return f": {text}" if text else ""
