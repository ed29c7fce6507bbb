"""Users, roles and what they may do: the replicated part of authentication."""

from etcdtw.auth.permissions import Permissions
from etcdtw.auth.store import ROOT, AuthStore, Caller

__all__ = ["ROOT", "AuthStore", "Caller", "Permissions"]
