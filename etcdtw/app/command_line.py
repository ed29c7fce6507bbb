"""The command line of this process, as far as others may know it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from etcdtw.app.settings import MemberSettings

SECRETS = frozenset({"discovery-password", "discovery-user"})
"""Flags whose values are not for others."""
SECRETS_OF_MESH = frozenset({"initial-cluster-token", "discovery", "discovery-token"})
"""Nor are these, where whoever knows them can be a member."""


def told_command_line(settings: MemberSettings, words: Sequence[str] | None = None) -> list[str]:
    """The program and its arguments, or these ``words``, for the log and pages on the process."""
    is_mesh = settings.client_mesh or settings.peer_mesh
    secrets = SECRETS | SECRETS_OF_MESH if is_mesh else SECRETS
    return [*sys.argv[:1], *without_secrets(sys.argv[1:] if words is None else words, secrets)]


def without_secrets(words: Sequence[str], secrets: frozenset[str] = SECRETS) -> list[str]:
    """Arguments as they may be told."""
    told = []
    for before, word in zip(["", *words], words, strict=False):
        name, mark, _ = word.partition("=")
        if mark and name.lstrip("-") in secrets:
            told.append(f"{name}=***")
        else:
            told.append("***" if before.lstrip("-") in secrets else word)
    return told
