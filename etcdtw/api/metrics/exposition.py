"""The text that Prometheus reads. Its library is loaded with the first request for it: a member
that nobody scrapes does without its memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from etcdtw.api.metrics.families import Family
from etcdtw.api.metrics.prometheus import load_prometheus
from etcdtw.counting import Histogram

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_TOTAL = "_total"


class Exposition:
    """Renders families, and what is known about the process, a piece at a time: all of it takes
    some 25 ms."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def pieces(self) -> Iterator[bytes]:
        """The text, in the order of the names; an empty piece while the library is loaded."""
        load_prometheus()
        yield b""
        readers: list[tuple[str, Callable[[], bytes]]] = [
            (each.name, partial(_text_of_family, each)) for each in self._families
        ]
        readers += [(each.name, partial(_text_of, each)) for each in _process()]
        for _, read in sorted(readers, key=itemgetter(0)):
            yield read()


def _text_of_family(family: Family) -> bytes:
    text = _text_of(_metric(family))
    if family.kind == "counter" and not family.name.endswith(_TOTAL):
        return _without_total(text, family.name.encode())
    return text


def _text_of(metric: Metric) -> bytes:
    from prometheus_client.exposition import generate_latest

    text: bytes = generate_latest(_Only(metric))
    return text


class _Only:
    """One metric, as the library wants a collection of them."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _without_total(text: bytes, name: bytes) -> bytes:
    """The library adds the suffix to every counter's heading; etcd has some without it."""
    for word in (b"HELP", b"TYPE"):
        text = text.replace(b"# %s %s_total " % (word, name), b"# %s %s " % (word, name))
    return text


def _metric(family: Family) -> Metric:
    from prometheus_client.core import Metric

    name = family.name
    metric = Metric(
        name.removesuffix(_TOTAL) if family.kind == "counter" else name, family.help, family.kind
    )
    value = family.read()
    labelled = [({}, value)] if isinstance(value, int | float | Histogram) else value
    for labels, each in labelled:
        if isinstance(each, Histogram):
            _add_histogram(metric, name, labels, each)
        else:
            metric.add_sample(name, labels, each)
    return metric


def _add_histogram(metric: Metric, name: str, labels: dict[str, str], histogram: Histogram) -> None:

    below = 0
    for bound, count in zip((*histogram.bounds, inf), histogram.counts, strict=True):
        below += count
        le = _bound_text(bound)
        metric.add_sample(f"{name}_bucket", labels | {"le": le}, below)
    metric.add_sample(f"{name}_sum", labels, histogram.total)
    metric.add_sample(f"{name}_count", labels, below)


@cache
def _bound_text(bound: float) -> str:
    """A bound as client_golang writes it (the library has 1.0 where that has 1): queries match on
    the text."""
    if bound == inf:
        return "+Inf"
    if 1e-4 <= bound < 1e6:
        return repr(bound).removesuffix(".0")
    from decimal import Decimal  # few bounds are so small or large, and only the page shows them

    mantissa, _, exponent = f"{Decimal(repr(bound)).normalize():e}".partition("e")
    return f"{mantissa}e{exponent[0]}{exponent[1:]:0>2}"


def _process() -> Iterator[Metric]:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.gc_collector import GCCollector
    from prometheus_client.platform_collector import PlatformCollector
    from prometheus_client.process_collector import ProcessCollector

    nobody = CollectorRegistry()
    yield from ProcessCollector(registry=nobody).collect()
    yield from GCCollector(registry=nobody).collect()
    yield from PlatformCollector(registry=nobody).collect()
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = float(2**64 - 1)
    for name, text, value in (
        (
            "process_virtual_memory_max_bytes",
            "Most virtual memory that the process may have.",
            unlimited if space == resource.RLIM_INFINITY else float(space),
        ),
        ("os_fd_limit", "Most files that the process may have open.", float(files)),
        ("os_fd_used", "Files that the process has open.", float(len(os.listdir("/proc/self/fd")))),
    ):
        yield GaugeMetricFamily(name, text, value)
