"""Metrics as the table declares them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from etcdtw.counting import Histogram

Kind = Literal["counter", "gauge", "histogram"]
Value = float | Histogram
Labels = dict[str, str]
Labelled = Iterable[tuple[Labels, Value]]


@dataclass(frozen=True)
class Family:
    """One metric: ``read`` gives its value, or its values by labels."""

    name: str
    kind: Kind
    help: str
    read: Callable[[], Value | Labelled]
