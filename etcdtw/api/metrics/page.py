"""``/metrics``."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from etcdtw.api.http.requests import HttpRequest, answer, plain_error
from etcdtw.api.metrics.exposition import CONTENT_TYPE, Exposition
from etcdtw.api.metrics.families import Family, Labelled
from etcdtw.replica.slices import Slices

_log = Logger()


class MetricsPage:
    """Answers every method, as etcd's page does, and takes turns with the requests of others."""

    def __init__(self, families: list[Family], clock: IReactorTime) -> None:
        self._served = self._failed = 0
        self._in_flight = 0
        self._slices = Slices(clock)
        self._exposition = Exposition([*families, *self._own_families()])

    def render(self, request: HttpRequest, path: bytes) -> bytes | None:
        request.comes_soon = True
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        pieces = self._exposition.pieces()
        text: list[bytes] = []
        self._in_flight += 1

        def step() -> bool:
            try:
                piece = None if gone else next(pieces, None)
            except Exception:
                _log.failure("failed to show metrics")
                self._failed += 1
                return end(plain_error(request, 500, "failed to show metrics"))
            if piece is not None:
                text.append(piece)
                return False
            self._served += not gone
            return end(b"" if gone else answer(request, 200, b"".join(text), CONTENT_TYPE))

        def end(body: bytes) -> bool:
            self._in_flight -= 1
            if not gone:
                request.write(body)
                request.finish()
            return True

        self._slices.run(step)
        return None

    def _own_families(self) -> list[Family]:
        # fmt: off
        return [
            Family("promhttp_metric_handler_requests_total", "counter", "Scrapes, by status.",
                   self._requests),
            Family("promhttp_metric_handler_requests_in_flight", "gauge",
                   "Scrapes being answered.", lambda: self._in_flight),
        ]
        # fmt: on

    def _requests(self) -> Labelled:
        return [
            ({"code": "200"}, self._served),
            ({"code": "500"}, self._failed),
            ({"code": "503"}, 0),
        ]
