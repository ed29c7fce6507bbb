"""``/metrics``."""

from __future__ import annotations

from etcdtw.api.http.requests import HttpRequest, answer
from etcdtw.api.metrics.exposition import CONTENT_TYPE, Exposition
from etcdtw.api.metrics.families import Family, Labelled


class MetricsPage:
    """Answers every method, as etcd's page does."""

    def __init__(self, families: list[Family]) -> None:
        self._served = 0
        self._exposition = Exposition([*families, *self._own_families()])

    def render(self, request: HttpRequest, path: bytes) -> bytes:
        body = self._exposition.render()
        self._served += 1
        return answer(request, 200, body, CONTENT_TYPE)

    def _own_families(self) -> list[Family]:
        # fmt: off
        return [
            Family("promhttp_metric_handler_requests_total", "counter", "Scrapes, by status.",
                   self._requests),
            Family("promhttp_metric_handler_requests_in_flight", "gauge",
                   "Scrapes being answered.", lambda: 1),
        ]
        # fmt: on

    def _requests(self) -> Labelled:
        return [({"code": "200"}, self._served), ({"code": "500"}, 0), ({"code": "503"}, 0)]
