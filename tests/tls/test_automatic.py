"""Certificates that a member makes for itself."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.automatic import LOOK_SECONDS, Automatic
from etcdtw.tls.contexts import FileContexts
from etcdtw.tls.interfaces import AutomaticSettings, TLSSettings
from etcdtw.tls.material import load_pair
from etcdtw.tls.pki import YEAR
from etcdtw.tls.verdict import alternative_names, usages
from tests.tls.meeting import contexts, meet, no_lookups

HOSTS = ("10.0.1.10", "127.0.0.1", "infra0.example.com", "localhost")
DAY = timedelta(days=1)


class AutomaticTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "fixtures", "client")
        self.clock = Clock()
        self.clock.advance(datetime(2030, 1, 1, tzinfo=UTC).timestamp())

    def make(self, years: int = 1) -> Automatic:
        settings = AutomaticSettings(directory=self.directory, hosts=HOSTS, years=years)
        return Automatic(settings, self.clock, self.clock.seconds)

    def certificate(self, automatic: Automatic) -> x509.Certificate:
        return load_pair(automatic.cert_file, automatic.key_file).chain[0]

    def test_form(self) -> None:
        """TA1, TA10: what etcd makes: its subject, key, signature, use and life."""
        found = self.certificate(self.make())
        self.assertEqual(found.subject.rfc4514_string(), "O=etcd")
        self.assertEqual(found.issuer, found.subject)
        key = found.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey), "it is ECDSA"
        self.assertEqual(key.curve.name, "secp521r1")
        assert found.signature_hash_algorithm is not None, "it is signed"
        self.assertEqual(found.signature_hash_algorithm.name, "sha512")
        self.assertEqual(usages(found), "serverAuth")
        now = datetime.fromtimestamp(self.clock.seconds(), UTC)
        self.assertEqual(found.not_valid_after_utc, now + YEAR)
        self.assertLess(found.not_valid_before_utc, now)
        longer = self.certificate(
            Automatic(
                AutomaticSettings(directory=self.directory + "2", hosts=HOSTS, years=3),
                self.clock,
                self.clock.seconds,
            )
        )
        self.assertEqual(longer.not_valid_after_utc, now + 3 * YEAR)

    def test_names(self) -> None:
        """TA4: addresses as addresses, names as names."""
        hosts, addresses = alternative_names(self.certificate(self.make()))
        self.assertEqual(hosts, ["infra0.example.com", "localhost"])
        self.assertEqual(addresses, ["10.0.1.10", "127.0.0.1"])

    def test_files(self) -> None:
        """TA7: etcd's paths and modes."""
        self.make()
        self.assertEqual(sorted(os.listdir(self.directory)), ["cert.pem", "key.pem"])
        mode = stat.S_IMODE(os.stat(os.path.join(self.directory, "key.pem")).st_mode)
        self.assertEqual(mode, 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.directory).st_mode), 0o700)

    def test_used_again(self) -> None:
        """TA3, TA6: the same pair after a restart, another one elsewhere."""
        first = self.certificate(self.make())
        self.clock.advance((YEAR / 2).total_seconds())
        self.assertEqual(self.certificate(self.make()), first)
        self.directory += "-other"
        self.assertNotEqual(self.certificate(self.make()), first)

    def test_unusable(self) -> None:
        """A pair of which a start wrote only half is made again."""
        automatic = self.make()
        first = self.certificate(automatic)
        for broken in (b"", automatic.key_file.encode()):
            Path(automatic.key_file).write_bytes(broken)
            again = self.certificate(self.make())
            self.assertNotEqual(again, first)

    def test_renewed(self) -> None:
        """After two thirds of its life, while the member runs, and for every new connection."""
        automatic = self.make()
        settings = TLSSettings(side="client")
        serving = FileContexts(settings, automatic, no_lookups)
        calling = contexts("client", unverified=True)
        serving.start()
        first = self.certificate(automatic)
        self.clock.advance((YEAR * 0.6).total_seconds())
        self.assertEqual(self.certificate(automatic), first)
        for _ in range(10):
            self.clock.advance(YEAR.total_seconds())
            found = self.certificate(automatic)
            now = datetime.fromtimestamp(self.clock.seconds(), UTC)
            self.assertLess(now + 300 * DAY, found.not_valid_after_utc)
            met = meet(serving, calling)
            self.assertEqual(met.heard, b"hello")
            self.assertEqual(met.served.getHandle().get_certificate().to_cryptography(), found)
        serving.stop()
        self.clock.advance(2 * LOOK_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_written(self) -> None:
        """A disk that takes no new certificate does not end the member."""
        automatic = self.make()
        automatic.start()
        os.rename(self.directory, self.directory + "-gone")
        Path(self.directory).write_bytes(b"in the way")
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        automatic.stop()
