"""The file in which a running member keeps the cluster it sees, for ``last-known-good``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from etcdtw.bootstrap.interfaces import BootstrapSettings
from etcdtw.ids import format_id

SUFFIX = ".members"


@dataclass(frozen=True)
class KnownCluster:
    """A cluster as its member saw it: id, and names and peer URLs of the others and its own."""

    cluster_id: int
    members: tuple[tuple[str, tuple[str, ...]], ...]

    def text(self) -> str:
        """What the file holds."""
        return json.dumps(
            {
                "cluster-id": format_id(self.cluster_id),
                "members": [{"name": name, "peer-urls": urls} for name, urls in self.members],
            },
            indent=1,
        )

    def urls_but(self, own: Iterable[str]) -> list[str]:
        """Where the others are."""
        return sorted({url for _, urls in self.members for url in urls} - set(own))


def known_path(settings: BootstrapSettings) -> str:
    """The file: the provider's argument, or beside the data directory."""
    return settings.provider_argument or settings.data_dir + SUFFIX
