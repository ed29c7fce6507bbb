"""``--bootstrap-provider http://…`` or ``https://…``: the members are listed at a URL.

Certificates are checked against the authorities of the system, or those of the file or directory
that the variables ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from twisted.internet.defer import CancelledError, TimeoutError

from etcdtw.bootstrap.interfaces import BootstrapSettings, ReactorView
from etcdtw.bootstrap.lists import LIST_BYTES_MAX, ListProvider, bad_list, no_list
from etcdtw.bootstrap.waiting import a_turn
from etcdtw.peer.calling import Answered, Calls, HttpCaller, TooLong, why_no_answer

ANSWER_SECONDS = 10.0
REDIRECTS_MAX = 5
MOVED = (301, 302, 303, 307, 308)


class HttpSource:
    """Fetches a page."""

    pause_seconds_max = 8.0

    def __init__(
        self, settings: BootstrapSettings, reactor: ReactorView, calls: Calls | None = None
    ) -> None:
        """``calls`` takes the place of real ones."""
        self._reactor = reactor
        self.name = f"{settings.provider}:{settings.provider_argument}"
        parts = _parts(self.name)
        if parts is None or not parts.hostname:
            raise bad_list(f"{self.name} is no URL with a host")
        if parts.username is not None:
            raise bad_list(f"a URL with a user name cannot be called: {self.name}")
        self._caller = HttpCaller(
            reactor, ANSWER_SECONDS, tls=system_tls, body_bytes_max=LIST_BYTES_MAX
        )
        self._calls = calls or self._caller

    async def read(self, seconds: float) -> bytes:
        await a_turn(self._reactor)  # nobody can be called before the reactor runs
        deadline = self._reactor.seconds() + min(seconds, ANSWER_SECONDS)
        url = self.name
        for _ in range(REDIRECTS_MAX + 1):
            answered = await self._get(url, deadline - self._reactor.seconds())
            if answered.status not in MOVED:
                break
            url = self._next(url, answered)
        else:
            raise bad_list(f"{self.name} redirects more than {REDIRECTS_MAX} times")
        if answered.status != 200:
            raise no_list(f"{url} answered {answered.status}")
        return answered.body

    async def _get(self, url: str, seconds: float) -> Answered:
        try:
            return await self._calls.call(b"GET", url, {}, b"", max(seconds, 0.1))
        except CancelledError:
            raise
        except TooLong as error:
            raise bad_list(f"{url}: {error}") from None
        except TimeoutError:
            raise no_list(f"{url}: no answer in time") from None
        except Exception as error:  # whatever keeps it from answering may pass
            raise no_list(f"{url}: {why_no_answer(error)}") from None

    def _next(self, url: str, answered: Answered) -> str:
        location = answered.headers.get(b"location", b"").decode("latin-1")
        target = urljoin(url, location) if _parts(location) is not None else ""
        scheme = urlsplit(target).scheme
        if not location or scheme not in ("http", "https"):
            raise bad_list(f"{url} redirects to {location!r}, which is no such URL")
        if url.startswith("https:") and scheme == "http":
            raise bad_list(f"{url} redirects to {target}, which is not safe")
        return target

    def close(self) -> None:
        self._caller.stop()


def _parts(url: str) -> SplitResult | None:
    """None for what is no URL."""
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def system_tls() -> Any:
    """For calling a server that has a certificate of a public authority."""
    from etcdtw.tls.contexts import FileContexts
    from etcdtw.tls.interfaces import TLSSettings

    def no_lookups() -> Any:
        raise AssertionError("only callers' addresses are looked up")

    return FileContexts(TLSSettings(side="client"), None, no_lookups)


def http_provider(reactor: ReactorView) -> ListProvider:
    return ListProvider(reactor, HttpSource)
