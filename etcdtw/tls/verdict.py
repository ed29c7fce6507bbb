"""Whether a certificate will do, and why not, in words that name what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from OpenSSL import SSL, crypto
from service_identity import VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from etcdtw.tls.material import Revocations
from etcdtw.tls.names import issuer, subject

Check = Callable[[x509.Certificate], str]
"""Looks at the certificate of the other side; an empty text if it will do, else why not."""

UNKNOWN_AUTHORITY = "x509: certificate signed by unknown authority"
_UNKNOWN_AUTHORITY_CODES = frozenset({2, 18, 19, 20, 21})
_NOT_YET_VALID, _EXPIRED = 9, 10
_BAD_SIGNATURE = 7
_WRONG_PURPOSE = 26
_BAD_AUTHORITY = frozenset({24, 79})
"""OpenSSL's numbers for what can be wrong with a certificate (x509_vfy.h)."""


class Verdict:
    """What was found out about the certificate of the other side of one connection."""

    def __init__(self, check: Check, purpose: str, checked_against: str) -> None:
        """``check`` comes after the chain was found good; ``purpose`` is the extended key usage
        that a certificate needs, ``checked_against`` the file of authorities, or what stands for
        it."""
        self.reason = ""
        self._check = check
        self._purpose = purpose
        self._checked_against = checked_against

    def verify(
        self, connection: SSL.Connection, cert: crypto.X509, code: int, depth: int, ok: int
    ) -> bool:
        """For OpenSSL, once for every certificate of a chain, the leaf last."""
        found = cert.to_cryptography()
        if not ok:
            self.reason = self._chain_fault(found, code)
        elif not self.reason and depth == 0:
            self.reason = self._check(found)
        return not self.reason

    def _chain_fault(self, certificate: x509.Certificate, code: int) -> str:
        name = subject(certificate).rfc4514_string()
        if code in _UNKNOWN_AUTHORITY_CODES:
            signer = issuer(certificate).rfc4514_string()
            who = "itself" if issuer(certificate) == subject(certificate) else f"{signer!r}"
            return f"{UNKNOWN_AUTHORITY}: {name!r} was signed by {who}, which is not in " + (
                self._checked_against
            )
        if code in (_EXPIRED, _NOT_YET_VALID):
            return (
                "x509: certificate has expired or is not yet valid: "
                f"{name!r} is valid from {_day(certificate.not_valid_before_utc)} "
                f"to {_day(certificate.not_valid_after_utc)}"
            )
        if code == _WRONG_PURPOSE:
            return (
                "x509: certificate specifies an incompatible key usage: "
                f"{name!r} is for {usages(certificate)}, and not for {self._purpose}"
            )
        if code == _BAD_SIGNATURE:
            return (
                "x509: certificate signature is wrong: "
                f"{name!r} was not signed by the {issuer(certificate).rfc4514_string()!r} in "
                + self._checked_against
            )
        if code in _BAD_AUTHORITY:
            return f"x509: invalid authority: {name!r} is not a certificate that may sign others"
        return f"x509: certificate verification failed: {name!r}: OpenSSL's verdict {code}"


def host_check(host: str) -> Check:
    """Whether a certificate is for a host name or an address."""
    by_address = is_address(host)

    def check(certificate: x509.Certificate) -> str:
        try:
            if by_address:
                verify_certificate_ip_address(certificate, host)
            else:
                verify_certificate_hostname(certificate, host)
        except (VerificationError, ValueError, x509.ExtensionNotFound):
            return (
                f"x509: certificate is valid for {names(certificate) or 'no host at all'}, "
                f"not {host}"
            )
        except Exception as error:  # service_identity raises its own for odd certificates
            return f"x509: certificate is valid for no host at all, not {host}: {error}"
        return ""

    return check


def any_of(checks: Sequence[Check]) -> Check:
    """Whether a certificate passes one of them at least."""

    def check(certificate: x509.Certificate) -> str:
        reasons = [each(certificate) for each in checks]
        return "; ".join(reasons) if all(reasons) else ""

    return check


def common_name_check(wanted: Sequence[str], flag: str) -> Check:
    """Whether a certificate's common name is one of those that are let in."""

    def check(certificate: x509.Certificate) -> str:
        found = common_name(certificate)
        if found in wanted:
            return ""
        allowed = ",".join(wanted)
        return f"CommonName authentication failed: it is {found!r}, and --{flag} is {allowed!r}"

    return check


def client_check(check: Check) -> Check:
    """The same, of clients and in etcd's words for them."""

    def checked(certificate: x509.Certificate) -> str:
        reason = check(certificate)
        return reason and f"client certificate authentication failed: {reason}"

    return checked


def revocation_fault(certificate: x509.Certificate, revocations: Revocations) -> str:
    """Empty if a certificate is not revoked."""
    if not revocations.revokes(certificate):
        return ""
    return (
        f"transport: certificate serial {certificate.serial_number:x} revoked: "
        f"{subject(certificate).rfc4514_string()!r}"
    )


def common_name(certificate: x509.Certificate) -> str:
    """The common name of the subject, empty where there is none."""
    found = subject(certificate).get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """Host names and addresses that a certificate is for; none where they cannot be read."""
    try:
        return readable_names(certificate)
    except ValueError:
        return [], []


def readable_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """The same. ValueError if the certificate has names, or anything, that cannot be read."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return [], []
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from error
    found = extension.value
    hosts = [str(each) for each in found.get_values_for_type(x509.DNSName)]
    return hosts, [str(each) for each in found.get_values_for_type(x509.IPAddress)]


def names(certificate: x509.Certificate) -> str:
    """Everything that a certificate is for, in one text."""
    hosts, addresses = alternative_names(certificate)
    return ", ".join([*addresses, *hosts])


_USAGES = {
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
}


def usages(certificate: x509.Certificate) -> str:
    """The extended key usages of a certificate."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE)
    except (x509.ExtensionNotFound, ValueError):
        return "any use"
    found: Any = extension.value
    return ", ".join(_USAGES.get(each, each.dotted_string) for each in found)


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_address(host: str) -> bool:
    """Whether a host is an IP address, not a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


_NO_HANDSHAKE = "tls: first record does not look like a TLS handshake"
_REASONS = {
    "peer did not return a certificate": "tls: client didn't provide a certificate",
    "http request": f"{_NO_HANDSHAKE}: it is a plain HTTP request",
    "https proxy request": f"{_NO_HANDSHAKE}: it is a plain HTTP proxy request",
    "wrong version number": _NO_HANDSHAKE,
    "packet length too long": _NO_HANDSHAKE,
    "record layer failure": _NO_HANDSHAKE,
    "unsupported protocol": "tls: no TLS version is spoken on both sides",
    "version too low": "tls: no TLS version is spoken on both sides",
    "no shared cipher": "tls: no cipher suite supported by both client and server",
    "no suitable signature algorithm": "tls: no signature algorithm is known on both sides",
}


def handshake_fault(error: BaseException, verdict: Verdict | None) -> str:
    """Why a handshake failed: the verdict on the other side's certificate, or what OpenSSL says."""
    if verdict is not None and verdict.reason:
        return verdict.reason
    reasons = openssl_reasons(error)
    if not reasons:
        return "EOF" if isinstance(error, SSL.Error) else (str(error) or type(error).__name__)
    for reason in reasons:
        if reason in _REASONS:
            return _REASONS[reason]
        if " alert " in f" {reason} ":
            alert = reason.partition("alert ")[2]
            return f"remote error: tls: {alert}: the other side refuses our certificate or offer"
    return f"tls: {reasons[-1]}"


def openssl_reasons(error: BaseException) -> list[str]:
    """What OpenSSL says is wrong, the first reason first."""
    if not isinstance(error, SSL.Error) or not error.args or isinstance(error.args[0], int):
        return []
    return [reason for _, _, reason in error.args[0] if reason]
