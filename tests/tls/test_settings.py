"""Settings and files of TLS that cannot be."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import ITLSContextFactory, ITLSProvider
from etcdtw.tls.providers import FILES, choose_provider
from tests.tls.case import PkiCase
from tests.tls.meeting import contexts, meet

P_384 = bytes.fromhex("06052b81040022")
"""The curve of the pairs, as DER names it (RFC 5480 2.1.1.1)."""


def _on_unknown_curve(pem: str) -> str:
    """A key or a certificate, with another number for its curve."""
    begin, *lines, end = pem.splitlines()
    der = b64decode("".join(lines))
    assert P_384 in der, "pairs are on another curve now"
    der = der.replace(P_384, P_384[:-1] + b"\x7f")
    return "\n".join((begin, b64encode(der).decode(), end, ""))


class SettingsTests(PkiCase):
    def refusal(self, side: str = "client", **settings: Any) -> ConfigError:
        error: ConfigError = self.assertRaises(ConfigError, contexts, side, **settings)
        return error

    def test_pair(self) -> None:
        """TS8: half a pair, in etcd's words."""
        error = self.refusal(cert_file="srv.crt")
        self.assertEqual(
            error.reason, "KeyFile and CertFile must both be present[key: , cert: srv.crt]"
        )
        self.assertEqual(error.flag, "key-file")
        self.assertEqual(self.refusal("peer", key_file="x").flag, "peer-cert-file")
        own = self.refusal("peer", client_cert_file="x")
        self.assertIn("ClientKeyFile and ClientCertFile must both be present", own.reason)

    def test_names(self) -> None:
        """Two kinds of name that exclude each other."""
        error = self.refusal("peer", allowed_cn=("a", "c"), allowed_hostname=("b",))
        self.assertEqual(
            error.reason,
            'AllowedCN and AllowedHostname are mutually exclusive (cn="a,c", hostname="b")',
        )

    def test_missing(self) -> None:
        """A file that is not there, as Go says it."""
        error = self.refusal(cert_file="/nonexistent.crt", key_file="/nonexistent.key")
        self.assertEqual(error.reason, "open /nonexistent.crt: no such file or directory")

    def pair(self) -> dict[str, str]:
        return {"cert_file": self.pki.path("member.crt"), "key_file": self.pki.path("member.key")}

    def test_passphrase(self) -> None:
        """SE6: a key that is protected is refused with the reason."""
        made = self.pki.issue("member", "peer", ["localhost"])
        protected = made.key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
        Path(self.pki.path("member.key")).write_bytes(protected)
        reason = self.refusal(**self.pair()).reason
        self.assertIn("tls: failed to parse private key: it is protected by a passphrase", reason)
        self.assertIn("member.key", reason)

    def test_mismatch(self) -> None:
        """SE6: a key of another certificate."""
        pair = {**self.pair(), "key_file": self.pki.path("client.key")}
        self.assertIn("private key does not match public key", self.refusal(**pair).reason)

    def test_garbage(self) -> None:
        """Files of something else are refused by their name."""
        garbage = self.pki.path("garbage")
        Path(garbage).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
        pair = self.pair()
        for field, words in (
            ("cert_file", "failed to find any PEM certificate"),
            ("key_file", "failed to parse private key"),
            ("trusted_ca_file", "failed to find any PEM certificate"),
            ("crl_file", "failed to parse CRL"),
        ):
            reason = self.refusal(**{**pair, field: garbage}).reason
            self.assertIn(words, reason)
            self.assertIn(garbage, reason)

    def test_unknown_curve(self) -> None:
        """Keys that nobody here can use are refused, and not used when they come later."""
        pair = self.pair()
        serving = contexts(**pair)
        for field, words in (
            ("key_file", "failed to parse private key"),
            ("cert_file", "failed to parse public key"),
        ):
            path = pair[field]
            good = Path(path).read_text()
            Path(path).write_text(_on_unknown_curve(good))
            reason = self.refusal(**pair).reason
            self.assertIn(words, reason)
            self.assertIn(path, reason)
            self.assertEqual(meet(serving, self.calling()).heard, b"hello")
            Path(path).write_text(good)
        self.assertEqual(serving.counts.failed_loads, 2)

    def test_indented_authorities(self) -> None:
        """An authority's file is read once, and by one reader: one may take what another does
        not."""
        path = self.pki.path("indented.crt")
        lines = Path(self.pki.path("ca.crt")).read_text().splitlines()
        Path(path).write_text("".join(f"  {line}\n" for line in lines))
        serving = contexts(trusted_ca_file=path, client_cert_auth=True, **self.pair())
        self.assertEqual(meet(serving, self.calling()).heard, b"hello")

    def test_provider(self) -> None:
        """Providers go by their names; an unknown one is refused with those there are."""
        self.assertIs(choose_provider("", [FILES]), FILES)
        error = self.assertRaises(ConfigError, choose_provider, "vault", [FILES])
        self.assertIn("files (certificates in files", error.reason)
        self.assertTrue(ITLSProvider.providedBy(FILES))
        self.assertTrue(ITLSContextFactory.providedBy(contexts()))
