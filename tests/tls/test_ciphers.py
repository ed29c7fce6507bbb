"""etcd's names for cipher suites and versions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.tls.ciphers import DEFAULT_SUITES, SUITES_OF_TLS13, check_versions, openssl_suites


class SuiteTests(SynchronousTestCase):
    def test_names(self) -> None:
        """SE7: Go's names, and what OpenSSL calls the same."""
        names = {
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
            "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
            "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
        }
        self.assertEqual(openssl_suites(list(names)), ":".join(names.values()))

    def test_defaults(self) -> None:
        """TLS 1.3 chooses by itself; without a choice there are the good ones."""
        self.assertEqual(openssl_suites([]), DEFAULT_SUITES)
        self.assertEqual(openssl_suites(SUITES_OF_TLS13), DEFAULT_SUITES)

    def test_unknown(self) -> None:
        """SE7: no suite, one that OpenSSL dropped, and one that never was."""
        for name in ("NOPE", "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA999"):
            error = self.assertRaises(ValueError, openssl_suites, [name])
            self.assertEqual(str(error), f'unexpected TLS cipher suite "{name}"')


class VersionTests(SynchronousTestCase):
    def refusal(self, oldest: str, newest: str, *suites: str) -> str:
        return str(self.assertRaises(ValueError, check_versions, oldest, newest, suites))

    def test_good(self) -> None:
        """Versions that go together."""
        for oldest in ("", "TLS1.2", "TLS1.3"):
            check_versions(oldest, "", ())
            check_versions(oldest, "TLS1.3", ())
        check_versions("TLS1.2", "TLS1.2", ("NOPE",))

    def test_refusals(self) -> None:
        """SE8: etcd's sentences."""
        self.assertIn('unexpected TLS version "TLS1.1"', self.refusal("TLS1.1", ""))
        self.assertIn('unexpected TLS version "2"', self.refusal("TLS1.2", "2"))
        self.assertEqual(
            self.refusal("TLS1.3", "TLS1.2"),
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        )
        self.assertEqual(
            self.refusal("TLS1.3", "", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        )
