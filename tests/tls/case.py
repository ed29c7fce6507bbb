"""A directory with an authority and pairs, for tests of one room."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.contexts import FileContexts
from tests.process.secured import Secured
from tests.tls.meeting import contexts


class PkiCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.pki = Secured(Path(os.path.abspath(self.mktemp())))

    def serving(self, pair: str = "member", ca: str = "ca.crt", **settings: Any) -> FileContexts:
        """Who asks callers for certificates, unless there is no ``ca``."""
        if ca:
            settings.update(trusted_ca_file=self.pki.path(ca), client_cert_auth=True)
        return contexts(
            cert_file=self.pki.path(f"{pair}.crt"),
            key_file=self.pki.path(f"{pair}.key"),
            **settings,
        )

    def calling(
        self, pair: str | None = "client", ca: str = "ca.crt", **settings: Any
    ) -> FileContexts:
        if pair is not None:
            settings.update(
                cert_file=self.pki.path(f"{pair}.crt"), key_file=self.pki.path(f"{pair}.key")
            )
        return contexts(trusted_ca_file=self.pki.path(ca), **settings)
