"""The v2 tree, pure: nodes, expiry, event history, watchers, counters and the saved form."""

from etcdtw.v2store.apply import UnknownMethod, apply_request, is_plain_put
from etcdtw.v2store.dump import recover
from etcdtw.v2store.errors import V2Code, V2Error
from etcdtw.v2store.event import Event
from etcdtw.v2store.node import NodeView
from etcdtw.v2store.saving import Saving, save
from etcdtw.v2store.stats import Stats
from etcdtw.v2store.times import PERMANENT, format_time, parse_time
from etcdtw.v2store.tree import CLUSTER_ROOT, KEYS_ROOT, V2Store, clean_path
from etcdtw.v2store.watch import Watcher

__all__ = [
    "CLUSTER_ROOT",
    "KEYS_ROOT",
    "PERMANENT",
    "Event",
    "NodeView",
    "Saving",
    "Stats",
    "UnknownMethod",
    "V2Code",
    "V2Error",
    "V2Store",
    "Watcher",
    "apply_request",
    "clean_path",
    "format_time",
    "is_plain_put",
    "parse_time",
    "recover",
    "save",
]
