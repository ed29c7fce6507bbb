"""Keeping the members last seen, for the bootstrap provider ``last-known-good``."""

from __future__ import annotations

import posixpath

from twisted.logger import Logger

from etcdtw.app.settings import MemberSettings
from etcdtw.bootstrap.interfaces import BootstrapSettings
from etcdtw.bootstrap.known_cluster import KnownCluster, known_path
from etcdtw.bootstrap.naming import LAST_KNOWN_GOOD, links
from etcdtw.ids import format_id
from etcdtw.membership import Members
from etcdtw.storage.filesystem import write_synced
from etcdtw.storage.interfaces import IFilesystem, IWorker

log = Logger(namespace="etcdtw.member")


def kept_for(settings: MemberSettings) -> BootstrapSettings | None:
    """The settings of the provider that will want to know; None if none is asked for."""
    asked = links(settings.bootstrap())
    return next((each for each in asked if each.provider == LAST_KNOWN_GOOD), None)


class KnownMembers:
    """Writes a cluster's members to a file whenever they have changed, durably and whole."""

    def __init__(
        self,
        settings: BootstrapSettings,
        cluster_id: int,
        members: Members,
        fs: IFilesystem,
        worker: IWorker,
    ) -> None:
        self._path = known_path(settings)
        self._cluster_id = cluster_id
        self._members = members
        self._fs = fs
        self._worker = worker
        self._written = ""

    def keep(self) -> None:
        """Write them, if they are others than the last time."""
        members = tuple(
            (each.name or format_id(each.id), each.peer_urls) for each in self._members.all()
        )
        text = KnownCluster(self._cluster_id, members).text()
        if text != self._written:
            self._written = text
            self._worker.run(lambda: self._write(text), lambda _: None, self._failed)

    def _write(self, text: str) -> None:
        aside = self._path + ".tmp"
        write_synced(self._fs, aside, text.encode())
        self._fs.rename(aside, self._path)
        self._fs.sync_dir(posixpath.dirname(self._path))

    def _failed(self, error: BaseException) -> None:
        self._written = ""
        log.warn("failed to keep the members: {error}", error=str(error), path=self._path)
