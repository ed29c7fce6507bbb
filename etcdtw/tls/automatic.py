"""Certificates that a member makes for itself (``--auto-tls``, ``--peer-auto-tls``): they encrypt,
and prove nothing. Made once, used again after a restart, and renewed long before they expire."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from etcdtw.tls.interfaces import AutomaticSettings
from etcdtw.tls.material import BadMaterial, load_pair
from etcdtw.tls.pki import (
    CERT_MODE,
    DIRECTORY_MODE,
    KEY_MODE,
    YEAR,
    make_self_signed,
    write_files,
)

RENEWED_AT = 2 / 3
"""Of its life a certificate is used before there is a new one."""
LOOK_SECONDS = 3600.0

log = Logger(namespace="etcdtw.tls")


class Automatic:
    """Keeps a valid pair in ``cert_file`` and ``key_file``."""

    def __init__(
        self, settings: AutomaticSettings, clock: Any, wall_seconds: Callable[[], float]
    ) -> None:
        """Makes what is not there yet. OSError if that cannot be written."""
        self._settings = settings
        self._clock = clock
        self._wall_seconds = wall_seconds
        self._looking: IDelayedCall | None = None
        self.cert_file = os.path.join(settings.directory, "cert.pem")
        self.key_file = os.path.join(settings.directory, "key.pem")
        self._look()

    def start(self) -> None:
        """Begin to watch its age."""
        self._looking = self._clock.callLater(LOOK_SECONDS, self._look_again)

    def stop(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()

    def _look_again(self) -> None:
        self.start()
        try:
            self._look()
        except OSError as error:
            log.error("a new certificate cannot be written: {error}", error=str(error))

    def _look(self) -> None:
        now = datetime.fromtimestamp(self._wall_seconds(), UTC)
        certificate = self._present()
        if certificate is not None and now < _renewal(certificate):
            return
        os.makedirs(self._settings.directory, DIRECTORY_MODE, exist_ok=True)
        made = make_self_signed(self._settings.hosts, now, self._settings.years * YEAR)
        write_files(
            [
                (self.key_file, made.key_pem(), KEY_MODE),
                (self.cert_file, made.certificate_pem(), CERT_MODE),
            ]
        )
        log.warn(
            "automatically generate certificates" if certificate is None else "renewed certificate",
            certificate_validity_bound_not_after=made.certificate.not_valid_after_utc.isoformat(),
            path=self.cert_file,
            sha256=fingerprint(made.certificate),
        )

    def _present(self) -> x509.Certificate | None:
        """The certificate that is there, if it can be used."""
        try:
            return load_pair(self.cert_file, self.key_file).chain[0]
        except FileNotFoundError:
            return None
        except (BadMaterial, OSError) as error:
            # Nobody else's: a start was interrupted while it was written.
            log.warn("the automatic certificate is made again: {error}", error=str(error))
            return None


def _renewal(certificate: x509.Certificate) -> datetime:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin + (end - begin) * RENEWED_AT


def fingerprint(certificate: x509.Certificate) -> str:
    """What users compare: the SHA-256 of a certificate."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
