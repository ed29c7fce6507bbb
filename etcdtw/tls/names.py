"""Whom a certificate names, also one whose names are not as the standard has them."""

from __future__ import annotations

import warnings

from cryptography import x509


def subject(certificate: x509.Certificate) -> x509.Name:
    """Whose certificate it is."""
    with warnings.catch_warnings():
        # Countries of three letters, say: Go takes them, and so do its users.
        warnings.simplefilter("ignore", UserWarning)
        return certificate.subject


def issuer(signed: x509.Certificate | x509.CertificateRevocationList) -> x509.Name:
    """Who signed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return signed.issuer
