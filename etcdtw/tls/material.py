"""Certificates, keys, authorities and revocation lists in PEM files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from twisted.logger import Logger

from etcdtw.counting import TLSCounts
from etcdtw.tls.names import issuer

T = TypeVar("T")
log = Logger(namespace="etcdtw.tls")


class BadMaterial(ValueError):
    """A file has something else than it should have; the text names it."""


@dataclass(frozen=True)
class Pair:
    """A certificate with those that lead to its authority, leaf first, and its private key."""

    chain: tuple[x509.Certificate, ...]
    key: Any


@dataclass(frozen=True)
class Held:
    """A pair and authorities that are in no files; ``name`` is what refusals call the latter."""

    pair: Pair
    authorities: tuple[x509.Certificate, ...]
    name: str


def load_pair(cert_file: str, key_file: str) -> Pair:
    """BadMaterial or OSError if the two do not hold a pair."""
    chain = tuple(load_certificates(cert_file))
    try:
        key = load_pem_private_key(_read(key_file), None)
    except TypeError:
        raise BadMaterial(
            f"{key_file}: tls: failed to parse private key: it is protected by a passphrase, and "
            "nobody is there to enter it; keys must be unencrypted"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadMaterial(f"{key_file}: tls: failed to parse private key: {error}") from None
    try:
        public_key = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadMaterial(f"{cert_file}: tls: failed to parse public key: {error}") from None
    if _public_bytes(key.public_key()) != _public_bytes(public_key):
        raise BadMaterial(
            f"tls: private key does not match public key: {key_file} is not the key of {cert_file}"
        )
    return Pair(chain, key)


def load_certificates(path: str) -> list[x509.Certificate]:
    """All of a PEM file, at least one. BadMaterial or OSError."""
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise BadMaterial(f"{path}: tls: failed to find any PEM certificate: {error}") from None


class Revocations:
    """What lists of revoked certificates say."""

    def __init__(self, lists: Sequence[x509.CertificateRevocationList]) -> None:
        self._revoked = {(issuer(each), one.serial_number) for each in lists for one in each}

    def revokes(self, certificate: x509.Certificate) -> bool:
        """Whether one of the lists has this certificate, and is of who issued it."""
        return (issuer(certificate), certificate.serial_number) in self._revoked


_CRL_MARK = b"-----BEGIN X509 CRL-----"


def load_revocations(path: str) -> Revocations:
    """The lists of a PEM or DER file. BadMaterial or OSError."""
    data = _read(path)
    try:
        if _CRL_MARK not in data:
            return Revocations([x509.load_der_x509_crl(data)])
        pieces = data.split(_CRL_MARK)[1:]
        return Revocations([x509.load_pem_x509_crl(_CRL_MARK + piece) for piece in pieces])
    except ValueError as error:
        raise BadMaterial(f"{path}: x509: failed to parse CRL: {error}") from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(error.errno, f"open {path}: {reason}") from None


def _public_bytes(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


class Reloaded(Generic[T]):
    """Something made of files, made anew when they have changed.

    Files that have changed into something unusable, as when they are just being written, are
    reported once, and what there was before stays in use until they change again.
    """

    def __init__(self, paths: Sequence[str], make: Callable[[], T], counts: TLSCounts) -> None:
        """Raises what ``make`` raises."""
        self._paths = tuple(paths)
        self._counts = counts
        self._make = make
        self._seen = self._signs()
        self._made = make()

    def get(self) -> T:
        """What the files say now."""
        signs = self._signs()
        if signs != self._seen:
            self._seen = signs
            try:
                self._made = self._make()
            except (BadMaterial, OSError) as error:
                self._counts.failed_loads += 1
                log.warn("changed TLS files are not used: {error}", error=error_text(error))
            else:
                self._counts.loads += 1
                log.info("loaded changed TLS files", files=self._paths)
        return self._made

    def _signs(self) -> tuple[object, ...]:
        return tuple(_sign(path) for path in self._paths)


def _sign(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino


def error_text(error: Exception) -> str:
    """A file's error without Python's number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
