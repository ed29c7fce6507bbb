"""Which kinds of worlds there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from etcdtw.testing.cluster import MemberParts
from etcdtw.testing.cluster_etcd import ETCD_PARTS

KINDS: Mapping[str, MemberParts] = {
    "v2": MemberParts(),
    "etcd": ETCD_PARTS,
    "streams": replace(ETCD_PARTS, streams=True),
}
"""v2 keys, where each answer is part of the state; keys, leases and watches of v3; and the latter
over byte streams, with everything real from member to member."""


def kind_of(seed: int) -> str:
    """The kind of a seed's world, where none is asked for."""
    return Random(f"kind/{seed}").choice(("v2", "etcd", "etcd", "streams"))
