"""Where the service keeps what belongs to a token, in both of its member's keyspaces."""

from __future__ import annotations

from etcdtw.api.v2.parsing import KEYS_ROOT

REGISTRY = "/_etcd/registry"


def v2_directory(token: str) -> str:
    """In the v2 tree: registrations are files in it."""
    return f"{KEYS_ROOT}{REGISTRY}/{token}"


def v2_size(token: str) -> str:
    """Hidden in the directory."""
    return f"{v2_directory(token)}/_config/size"


def v3_size(token: str) -> str:
    return f"{REGISTRY}/{token}/_config/size"


def v3_owner(token: str) -> str:
    """The hash of the owner's secret. Members ask for the size and for those of their kind."""
    return f"{REGISTRY}/{token}/_config/owner"


def v3_members(token: str) -> str:
    """Begins the keys of registrations."""
    return f"{REGISTRY}/{token}/members/"


def v3_marks(token: str) -> str:
    """Begins keys that are no registrations, and that etcd 3.6 takes for some: it watches all that
    begins with ``members``."""
    return f"{REGISTRY}/{token}/members-reset/"
