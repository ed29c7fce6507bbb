"""The command line of this process, as far as others may know it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from etcdtw.app.mesh import secret_of_mesh
from etcdtw.app.settings import MemberSettings
from etcdtw.observe.logging import HIDDEN

SECRETS = frozenset({"discovery-password", "discovery-user"})
"""Flags whose values are not for others."""


def told_command_line(settings: MemberSettings, words: Sequence[str] | None = None) -> list[str]:
    """The program and its arguments, or these ``words``, for the log and pages on the process."""
    told = [*sys.argv[:1], *without_secrets(sys.argv[1:] if words is None else words)]
    secret = secret_of_mesh(settings)
    return [each.replace(secret, HIDDEN) for each in told] if secret else told


def without_secrets(words: Sequence[str]) -> list[str]:
    """Arguments as they may be told."""
    told = []
    for before, word in zip(["", *words], words, strict=False):
        name, mark, _ = word.partition("=")
        if mark and name.lstrip("-") in SECRETS:
            told.append(f"{name}={HIDDEN}")
        else:
            told.append(HIDDEN if before.lstrip("-") in SECRETS else word)
    return told
