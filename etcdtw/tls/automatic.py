"""Certificates that a member makes for itself (``--auto-tls``, ``--peer-auto-tls``). Made once,
used again after a restart, and renewed long before they expire.

They encrypt, and prove nothing; those of a mesh are signed by an authority that all members have.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import AutomaticSettings, MeshSettings
from etcdtw.tls.mesh import MeshFiles
from etcdtw.tls.pairs import PairFiles
from etcdtw.tls.pki import YEAR, make_self_signed

LOOK_SECONDS = 3600.0

log = Logger(namespace="etcdtw.tls")


class Automatic:
    """Keeps a valid pair in ``cert_file`` and ``key_file``; ``proves`` tells whether somebody else
    can check it."""

    def __init__(
        self, settings: AutomaticSettings, clock: Any, wall_seconds: Callable[[], float]
    ) -> None:
        """Makes what is not there yet. OSError if that cannot be written, ConfigError if there is
        nothing that a mesh's authority could be made from."""
        self._clock = clock
        self._wall_seconds = wall_seconds
        self._looking: IDelayedCall | None = None
        self.cert_file = os.path.join(settings.directory, "cert.pem")
        self.key_file = os.path.join(settings.directory, "key.pem")
        self.proves = settings.mesh is not None
        self._kept: list[PairFiles | MeshFiles] = []
        if settings.mesh is None:
            self._keep_self_signed(settings)
        else:
            self._keep_issued(settings, settings.mesh)
        self._look()

    def start(self) -> None:
        """Begin to watch its age."""
        self._looking = self._clock.callLater(LOOK_SECONDS, self._look_again)

    def stop(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()

    def _keep_self_signed(self, settings: AutomaticSettings) -> None:
        validity = settings.years * YEAR
        self._kept.append(
            PairFiles(
                self.cert_file,
                self.key_file,
                lambda now: make_self_signed(settings.hosts, now, validity),
            )
        )

    def _keep_issued(self, settings: AutomaticSettings, mesh: MeshSettings) -> None:
        authority = MeshFiles(mesh)
        self._kept.append(authority)
        self._kept.append(
            PairFiles(
                self.cert_file,
                self.key_file,
                lambda now: authority.issue("peer", settings.hosts, now, settings.years),
                lambda certificate: authority.fault(certificate, settings.hosts),
            )
        )
        if not mesh.for_clients:
            return
        cert_file = os.path.join(settings.directory, "client.pem")
        key_file = os.path.join(settings.directory, "client-key.pem")
        self._kept.append(
            PairFiles(
                cert_file,
                key_file,
                lambda now: authority.issue("client", (), now, settings.years),
                lambda certificate: authority.fault(certificate, ()),
            )
        )
        log.info(
            "clients need a certificate: etcdctl {flags}",
            flags=f"--cacert {mesh.ca_file} --cert {cert_file} --key {key_file}",
        )

    def _look_again(self) -> None:
        self.start()
        try:
            self._look()
        except (OSError, ConfigError) as error:
            log.error("a new certificate cannot be written: {error}", error=str(error))

    def _look(self) -> None:
        now = datetime.fromtimestamp(self._wall_seconds(), UTC)
        for each in self._kept:
            each.look(now)
