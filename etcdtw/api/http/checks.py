"""``/livez`` and ``/readyz``, as etcd has them since 3.5.11: named checks, each also alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import parse_qs

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.http.resources import HealthView, Page
from etcdtw.errors import EtcdError

Report = Callable[[str | None], None]
"""Takes what is wrong, None if nothing is."""
Check = Callable[[Report], None]


class Checks:
    """One of the two paths: ``name`` is "livez" or "readyz". ``results`` counts outcomes by check
    and status, for metrics."""

    def __init__(self, name: str, checks: dict[str, Check]) -> None:
        self.name = name
        self.results: dict[tuple[str, str], int] = {
            (each, status): 0 for each in checks for status in ("success", "error")
        }
        self._checks = checks

    def pages(self) -> Iterator[tuple[bytes, Page]]:
        """The path for all checks together, and one for each."""
        yield f"/{self.name}".encode(), _ChecksPage(self, tuple(self._checks))
        for each in self._checks:
            yield f"/{self.name}/{each}".encode(), _ChecksPage(self, (each,))

    def run(self, names: Sequence[str], done: Callable[[str, bool], None]) -> None:
        """Run these checks at once; ``done`` gets a line for each, in their order, and whether all
        went well."""
        outcomes: dict[str, str | None] = {}

        def report(name: str, wrong: str | None) -> None:
            outcomes[name] = wrong
            self.results[name, "error" if wrong else "success"] += 1
            if len(outcomes) == len(names):
                text = "".join(_line(each, outcomes[each]) for each in names)
                done(text, not any(outcomes.values()))

        if not names:
            done("", True)
        for name in names:
            self._checks[name](partial(report, name))


def _line(name: str, wrong: str | None) -> str:
    return f"[-]{name} failed: {wrong}\n" if wrong else f"[+]{name} ok\n"


class _ChecksPage(Page):
    def __init__(self, checks: Checks, names: tuple[str, ...]) -> None:
        self._checks = checks
        self._names = names

    def show(self, request: HttpRequest) -> bytes | None:
        excluded = {each.decode("latin-1") for each in request.args.get(b"exclude", [])}
        names = self._names
        if len(names) > 1:
            names = tuple(each for each in names if each not in excluded)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done(text: str, healthy: bool) -> None:
            if gone:
                return
            if healthy:
                verbose = text if _wants_details(request) else ""
                body = (verbose + "ok\n").encode()
                request.setHeader(b"x-content-type-options", b"nosniff")
                request.write(answer(request, 200, body, b"text/plain; charset=utf-8"))
            else:
                request.write(plain_error(request, 503, text))
            request.finish()

        self._checks.run(names, done)
        return None


def _wants_details(request: HttpRequest) -> bool:
    """Twisted leaves out arguments without ``=``."""
    _, _, query = request.uri.partition(b"?")
    return b"verbose" in parse_qs(query, keep_blank_values=True)


def member_checks(view: HealthView) -> tuple[Checks, Checks]:
    """Whether to restart a member, and whether to send it requests."""

    def serializable_read(report: Report) -> None:
        report(None)  # this process answers from its memory

    def linearizable_read(report: Report) -> None:
        def answered(error: EtcdError | None) -> None:
            report(None if error is None else str(error))

        view.read(answered)

    def data_corruption(report: Report) -> None:
        report("alarm activated: CORRUPT" if "CORRUPT" in view.raised_alarms() else None)

    return (
        Checks("livez", {"serializable_read": serializable_read}),
        Checks(
            "readyz",
            {
                "data_corruption": data_corruption,
                "serializable_read": serializable_read,
                "linearizable_read": linearizable_read,
            },
        ),
    )
