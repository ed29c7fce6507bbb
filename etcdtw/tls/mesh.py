"""The authority of a cluster that every member makes for itself (``--auto-tls=mesh``,
``--peer-auto-tls=mesh``), from a secret that all members share: the cluster's token.

The secret, as UTF-8, goes through HKDF (RFC 5869) with SHA-384, ``SALT`` and ``INFO``; the 64
bytes that come out, as a big-endian number modulo n - 1, plus 1, are a private key on P-384, whose
order n is. So many bytes make all keys equally likely, but for one part in 2^128. The name of the
authority has the beginning of the SHA-256 of its public key. Members with one secret thus have one
key and one name; their certificates of the authority differ in dates, number and signature, none
of which counts when another certificate is checked against them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.logger import Logger

from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import SECRET_CHARACTERS_MIN, AutomaticSettings, MeshSettings
from etcdtw.tls.material import BadMaterial, Held, Pair, error_text, load_pair
from etcdtw.tls.names import subject
from etcdtw.tls.pairs import is_fresh
from etcdtw.tls.pki import (
    CERT_MODE,
    DIRECTORY_MODE,
    KEY_MODE,
    YEAR,
    MadePair,
    alternative_names,
    issue,
    make_authority,
    write_files,
)

SALT, INFO = b"etcdtw mesh", b"authority key, P-384, version 1"
"""Fixed for ever: other ones would make another authority of the same secret."""
DERIVED_BYTES = 64
ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
"""n of P-384 (FIPS 186-4, D.1.2.4)."""

DEFAULT_SECRET = "etcd-cluster"
NAME_DIGITS = 16
AUTHORITY_LIFE = 30 * YEAR
CLOCK_DIFFERENCE = timedelta(days=1)
"""What the others' clocks may be behind by: certificates begin so long before they are made."""

log = Logger(namespace="etcdtw.tls")


def derive_key(secret: str) -> ec.EllipticCurvePrivateKey:
    """The authority's key. See the module."""
    derived = HKDF(hashes.SHA384(), DERIVED_BYTES, SALT, INFO).derive(secret.encode())
    return ec.derive_private_key(int.from_bytes(derived, "big") % (ORDER - 1) + 1, ec.SECP384R1())


def authority_name(key: ec.EllipticCurvePublicKey) -> str:
    """The common name of the authority with this key."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return f"etcdtw mesh {digest.finalize().hex()[:NAME_DIGITS]}"


def sign_authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> MadePair:
    """The authority of a key, with a new certificate."""
    name = authority_name(key.public_key())
    begin = now - CLOCK_DIFFERENCE
    return make_authority(name, begin, AUTHORITY_LIFE, key)


def secret_fault(settings: MeshSettings) -> str:
    """Empty if a secret may be one, else why not, and what to do."""
    do = (
        "give all members the same random one of at least "
        f"{SECRET_CHARACTERS_MIN} characters, for instance from: openssl rand -hex 16"
    )
    flag = f"--{settings.flag}"
    if settings.secret == DEFAULT_SECRET:
        return f"automatic TLS as mesh needs a secret, and {flag} is the default; {do}"
    if len(settings.secret) < SECRET_CHARACTERS_MIN:
        return (
            "automatic TLS as mesh needs a secret, and the token of "
            f"{flag} has only {len(settings.secret)} characters; {do}"
        )
    return ""


def find_authority(settings: MeshSettings, now: datetime) -> MadePair:
    """The authority that is kept, or else that of the secret; nothing is written. ConfigError if
    there is neither."""
    kept = read_kept(settings)
    if kept is not None:
        return _renewed(kept, now)
    fault = secret_fault(settings)
    if fault:
        raise ConfigError(settings.flag, "flags", fault)
    return sign_authority(derive_key(settings.secret), now)


def read_kept(settings: MeshSettings) -> MadePair | None:
    """The authority of an earlier start, None if there is none that counts. ConfigError for files
    that cannot be used, if there is no secret to make them again from."""
    try:
        pair = load_pair(settings.ca_file, settings.key_file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError("data-dir", "file", error_text(error)) from error
    except BadMaterial as error:
        fault = secret_fault(settings)
        if fault:
            raise ConfigError(settings.flag, "file", f"{error}; {fault}") from error
        log.warn("the cluster's authority is made again: {error}", error=str(error))
        return None
    kept = MadePair(pair.key, pair.chain[0])
    if not settings.has_started and _is_derived(kept) and _name_by_secret(settings, kept):
        log.warn("the cluster's authority is made again: no member has started with the former")
        return None
    return kept


def _name_by_secret(settings: MeshSettings, kept: MadePair) -> str:
    """The name of the secret's authority if it is another one than is kept; empty if there is no
    secret."""
    if secret_fault(settings):
        return ""
    name = authority_name(derive_key(settings.secret).public_key())
    return "" if _name(kept) == f"CN={name}" else f"CN={name}"


def _name(authority: MadePair) -> str:
    return subject(authority.certificate).rfc4514_string()


def _renewed(kept: MadePair, now: datetime) -> MadePair:
    """The same, if need be with new dates; not if it is somebody's own, whose name is another."""
    if is_fresh(kept.certificate, now) or not _is_derived(kept):
        return kept
    return sign_authority(kept.key, now)


def _is_derived(kept: MadePair) -> bool:
    if not isinstance(kept.key, ec.EllipticCurvePrivateKey):
        return False
    name = authority_name(kept.key.public_key())
    return _name(kept) == f"CN={name}"


def issue_pair(
    authority: MadePair, kind: str, hosts: Iterable[str], now: datetime, years: int
) -> MadePair:
    """A pair of an authority for these hosts, valid for so many years from now."""
    begin = now - CLOCK_DIFFERENCE
    return issue(authority, "", hosts, kind, begin, years * YEAR + CLOCK_DIFFERENCE)


def pair_for_calls(automatic: AutomaticSettings, mesh: MeshSettings, now: datetime) -> Held:
    """What a member calls others with before it has a directory. ConfigError as
    ``find_authority``."""
    authority = find_authority(mesh, now)
    made = issue_pair(authority, "client", automatic.hosts, now, automatic.years)
    name = f"the mesh of {_name(authority)!r}"
    return Held(Pair((made.certificate,), made.key), (authority.certificate,), name)


class MeshFiles:
    """The authority in its files; what is there counts more than the secret."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._authority: MadePair | None = None

    def look(self, now: datetime) -> None:
        """Take what is there, or make it. ConfigError as ``find_authority``, OSError if it cannot
        be written."""
        settings = self._settings
        kept = read_kept(settings)
        found = _renewed(kept, now) if kept is not None else find_authority(settings, now)
        if self._authority is None and kept is not None:
            self._compare(kept)
        self._authority = found
        if kept is found:
            return
        os.makedirs(settings.directory, DIRECTORY_MODE, exist_ok=True)
        write_files(
            [
                (settings.key_file, found.key_pem(), KEY_MODE),
                (settings.ca_file, found.certificate_pem(), CERT_MODE),
            ]
        )
        log.warn(
            "made the cluster's authority" if kept is None else "renewed the cluster's authority",
            path=settings.ca_file,
            name=_name(found),
        )

    def issue(self, kind: str, hosts: Iterable[str], now: datetime, years: int) -> MadePair:
        """A pair of the authority."""
        return issue_pair(self._found(), kind, hosts, now, years)

    def fault(self, certificate: x509.Certificate, hosts: Iterable[str]) -> str:
        """Empty if a certificate is of the authority and for these hosts."""
        authority = self._found().certificate
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            return f"it is not of {_name(self._found())!r}"
        if _names(certificate) != set(alternative_names(hosts)):
            return "it is for other hosts"
        return ""

    def _compare(self, kept: MadePair) -> None:
        """Tell when the flags speak of another authority, which most likely is a mistake."""
        settings = self._settings
        name = _name_by_secret(settings, kept)
        if name:
            log.warn(
                "the cluster's authority is the one that is kept, not that of the flag",
                path=settings.ca_file,
                name=_name(kept),
                flag=settings.flag,
                name_by_flag=name,
            )

    def _found(self) -> MadePair:
        assert self._authority is not None, "looked at the authority first"
        return self._authority


def _names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(
            certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except (x509.ExtensionNotFound, ValueError):
        return set()
