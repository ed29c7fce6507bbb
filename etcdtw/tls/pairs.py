"""Pairs that are kept in files, and made again when they will not do any longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from twisted.logger import Logger

from etcdtw.tls.material import BadMaterial, load_pair
from etcdtw.tls.pki import CERT_MODE, DIRECTORY_MODE, KEY_MODE, MadePair, write_files

RENEWED_AT = 2 / 3
"""Of its life a certificate is used before there is a new one."""

log = Logger(namespace="etcdtw.tls")


@dataclass(frozen=True, slots=True)
class PairFiles:
    """A certificate and its key in two files. ``make`` gives new ones; ``fault`` tells why one that
    is there will not do, if it will not."""

    cert_file: str
    key_file: str
    make: Callable[[datetime], MadePair]
    fault: Callable[[x509.Certificate], str] = lambda certificate: ""

    def look(self, now: datetime) -> None:
        """Make what is not there, or has grown old. OSError if that cannot be written."""
        certificate = self._present()
        if certificate is not None and is_fresh(certificate, now):
            return
        os.makedirs(os.path.dirname(self.cert_file), DIRECTORY_MODE, exist_ok=True)
        made = self.make(now)
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
            certificate = load_pair(self.cert_file, self.key_file).chain[0]
            fault = self.fault(certificate)
        except FileNotFoundError:
            return None
        except (BadMaterial, OSError) as error:
            # Nobody else's: a start was interrupted while it was written.
            fault = str(error)
        if fault:
            log.warn("the automatic certificate is made again: {error}", error=fault)
            return None
        return certificate


def is_fresh(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it need not be renewed; one that was made while the clock was ahead must be."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin <= now < begin + (end - begin) * RENEWED_AT


def fingerprint(certificate: x509.Certificate) -> str:
    """What users compare: the SHA-256 of a certificate."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()
