"""Why a cluster cannot be founded or joined, for scripts, for people and for support."""

from __future__ import annotations

from etcdtw.errors import ConfigError

CLUSTER_IS_FULL = "ETW-BOOT-FULL"
"""Code of the refusal that ``--discovery-fallback=proxy`` makes a proxy of."""


class BootstrapError(ConfigError):
    """A refusal of a bootstrap provider.

    ``reason`` is the sentence of today's etcd. ``sentence`` is what the last line on stderr says:
    the one of etcd's clustering guide where it has one. ``code`` never changes once released;
    ``hint`` says what was compared and what to change.
    """

    def __init__(
        self, flag: str, reason: str, *, code: str, sentence: str = "", hint: str = ""
    ) -> None:
        super().__init__(flag, "bootstrap", reason)
        self.sentence = sentence or reason
        self.code = code
        self.hint = hint


class BootstrapUnavailable(BootstrapError):
    """Nothing was found out, for now: the next provider of a chain may be asked.

    ``known_cluster`` is the id of the cluster that this member was in before, as far as that is
    known: whoever is asked next must not found one.
    """

    known_cluster: int | None = None
