"""Making keys and certificates: an authority of one's own, pairs of members and clients, and those
that members make for themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_MODE, CERT_MODE, DIRECTORY_MODE = 0o600, 0o644, 0o700
YEAR = timedelta(days=365)
CLOCK_MARGIN = timedelta(minutes=5)
"""What machines' clocks may differ by when a certificate is new."""

AUTOMATIC_NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
"""Whom certificates are for that nobody asked for by a name."""

USAGES = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "peer": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


@dataclass(frozen=True)
class MadePair:
    """A private key and a certificate for it."""

    key: Any
    certificate: x509.Certificate

    def key_pem(self) -> bytes:
        pem: bytes = self.key.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
        )
        return pem

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def make_authority(
    common_name: str,
    now: datetime,
    validity: timedelta,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> MadePair:
    """An authority: its key, a new one unless it is given, and the certificate that it signed
    itself."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        _builder(name, name, key, now, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return MadePair(key, builder.sign(key, hashes.SHA384()))


def issue(
    authority: MadePair,
    common_name: str,
    hosts: Iterable[str],
    kind: str,
    now: datetime,
    validity: timedelta,
) -> MadePair:
    """A pair signed by an authority; ``kind`` is one of ``USAGES``. Without a common name it is
    that of automatic certificates."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = AUTOMATIC_NAME
    if common_name:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    issuer = authority.certificate
    builder = (
        _builder(subject, issuer.subject, key, now, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES[kind]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]  # of the kinds that sign
            critical=False,
        )
    )
    names = alternative_names(hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return MadePair(key, builder.sign(authority.key, hashes.SHA384()))


def revoke(
    authority: MadePair, serial_numbers: Iterable[int], now: datetime
) -> x509.CertificateRevocationList:
    """An authority's list of its certificates that are not good any more."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        .next_update(now + YEAR)
    )
    for each in serial_numbers:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(each).revocation_date(now).build()
        )
    return builder.sign(authority.key, hashes.SHA384())


def make_self_signed(hosts: Sequence[str], now: datetime, validity: timedelta) -> MadePair:
    """A pair that vouches for itself, in the form that etcd makes with ``--auto-tls``."""
    key = ec.generate_private_key(ec.SECP521R1())
    builder = (
        _builder(AUTOMATIC_NAME, AUTOMATIC_NAME, key, now, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES["server"]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative_names(hosts)), critical=False)
    )
    return MadePair(key, builder.sign(key, hashes.SHA512()))


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Host names and addresses as a certificate has them, each once."""
    found: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            found.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def write_files(files: Sequence[tuple[str, bytes, int]]) -> None:
    """Write files of these paths, contents and modes, each whole or not at all."""
    for path, data, mode in files:
        written = f"{path}.tmp"
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    for path, _, _ in files:
        os.replace(f"{path}.tmp", path)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, now: datetime, validity: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_MARGIN)
        .not_valid_after(now + validity)
    )


def _key_usage(signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
