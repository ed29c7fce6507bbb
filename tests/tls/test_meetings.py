"""Who is let in, who is not, and why, in the words of etcd's log and with names."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.names import dns, error
from twisted.python.failure import Failure

from etcdtw.tls import transport as tls_transport
from etcdtw.tls.addresses import check_address
from etcdtw.tls.interfaces import TLSRefused
from etcdtw.tls.pki import CERT_MODE, YEAR, MadePair, make_self_signed, revoke, write_files
from etcdtw.tls.transport import HANDSHAKE_SECONDS, HELD_BYTES, secure_listening
from tests.process.secured import Secured
from tests.tls.case import PkiCase
from tests.tls.meeting import CALLER, Echo, Meeting, contexts, meet


class MeetingTests(PkiCase):
    def assert_rejected(self, pair: str | None, *words: str, **serving: object) -> None:
        """The server refuses a caller, and its line has these words."""
        met = meet(self.serving(**serving), self.calling(pair))  # type: ignore[arg-type]
        self.assertEqual(met.heard, b"")
        self.assertEqual(len(met.rejected), 1, met.rejected)
        for word in words:
            self.assertIn(word, met.rejected[0])

    def assert_refused(self, server_pair: str, called: str, *words: str) -> None:
        """The caller refuses the server, and his error has these words."""
        met = meet(self.serving(server_pair), self.calling(), called=called)
        self.assertEqual(len(met.refused), 1, met.refused)
        for word in words:
            self.assertIn(word, met.refused[0])

    def test_good(self) -> None:
        """TS5: a certificate of the authority, for clients, is let in; the server's is checked."""
        for called in ("localhost", "127.0.0.1"):
            met = meet(self.serving(), self.calling(), called=called)
            self.assertEqual((met.heard, met.rejected, met.refused), (b"hello", [], []))

    def test_nobody(self) -> None:
        """TS5: without a certificate."""
        self.assert_rejected(None, "tls: client didn't provide a certificate")

    def test_not_asked(self) -> None:
        """SE1, TA5: who asks for no certificates serves everybody."""
        met = meet(self.serving(ca=""), self.calling(None))
        self.assertEqual(met.heard, b"hello")

    def test_ended_after_the_end(self) -> None:
        """Who ends a connection that is gone already does nothing, as with TCP."""
        met = meet(self.serving(), self.calling())
        sides: list[Any] = [met.caller.transport, met.served]
        sides[0].abortConnection()
        met.pump.flush()
        self.assertIsNotNone(met.caller.lost)
        for side in sides:
            side.abortConnection()
            side.loseConnection()

    def test_other_authority(self) -> None:
        """TS4, TS5: one of another authority, which is named."""
        other = Secured(Path(os.path.abspath(self.mktemp())), "somebody else")
        self.pki.issue("stranger", "client", authority=other.authority)
        self.assert_rejected(
            "stranger",
            "x509: certificate signed by unknown authority",
            "CN=stranger",
            "CN=somebody else",
            self.pki.path("ca.crt"),
        )

    def test_wrong_usage(self) -> None:
        """TS5, SE21: for servers only, so not for clients; and the other way round."""
        self.pki.issue("server", "server", ["localhost"])
        words = (
            "x509: certificate specifies an incompatible key usage",
            "serverAuth",
            "clientAuth",
        )
        self.assert_rejected("server", *words)
        self.pki.issue("no-server", "client", ["localhost"])
        self.assert_refused("no-server", "localhost", *words)

    def test_expired(self) -> None:
        """Out of date, with the dates."""
        self.pki.issue("old", "peer", ["localhost"], begun=2 * YEAR)
        words = ("x509: certificate has expired or is not yet valid", "CN=old", "valid from 20")
        self.assert_rejected("old", *words)
        self.assert_refused("old", "localhost", *words)
        self.pki.issue("early", "peer", ["localhost"], begun=-YEAR)
        self.assert_rejected("early", *words[:1], "CN=early")

    def test_self_signed(self) -> None:
        """One that nobody vouches for but itself."""
        made = make_self_signed(["localhost"], datetime.now(UTC), YEAR)
        write_files(
            [
                (self.pki.path("own.crt"), made.certificate_pem(), CERT_MODE),
                (self.pki.path("own.key"), made.key_pem(), 0o600),
            ]
        )
        self.assert_rejected("own", "signed by unknown authority", "signed by itself")
        self.assert_refused("own", "localhost", "signed by unknown authority", "signed by itself")

    def test_forged(self) -> None:
        """In the authority's name, with another key."""
        forger = Secured(Path(os.path.abspath(self.mktemp())), "test authority")
        forged = MadePair(forger.authority.key, self.pki.authority.certificate)
        self.pki.issue("forged", "peer", ["localhost"], authority=forged)
        self.assert_rejected("forged", "x509: certificate", "CN=forged", "test authority")
        self.assert_refused("forged", "localhost", "x509: certificate", "CN=forged")

    def test_wrong_host(self) -> None:
        """A server whose certificate is for others."""
        self.pki.issue("elsewhere", "peer", ["10.0.0.9", "elsewhere.example"])
        words = ("x509: certificate is valid for 10.0.0.9, elsewhere.example", "not localhost")
        self.assert_refused("elsewhere", "localhost", *words)
        self.assert_refused("elsewhere", "127.0.0.1", words[0], "not 127.0.0.1")
        self.pki.issue("nowhere", "peer")
        self.assert_refused("nowhere", "localhost", "valid for no host at all, not localhost")

    def test_common_name(self) -> None:
        """SE14: --peer-cert-allowed-cn, for callers and called."""
        self.pki.issue("right", "peer", ["localhost", CALLER], common_name="etcd-peer")
        met = meet(
            self.serving("right", allowed_cn=("other", "etcd-peer")),
            self.calling("right", allowed_cn=("other", "etcd-peer")),
        )
        self.assertEqual(met.heard, b"hello")
        self.assert_rejected(
            "client",
            "CommonName authentication failed",
            "'client'",
            "--peer-cert-allowed-cn is 'other,etcd-peer'",
            allowed_cn=("other", "etcd-peer"),
        )

    def test_allowed_hostname(self) -> None:
        """SE14: --peer-cert-allowed-hostname."""
        self.pki.issue("node", "peer", ["node.example"])
        node = self.serving(
            allowed_hostname=("other.example", "node.example"), skip_address_check=True
        )
        self.assertEqual(meet(node, self.calling("node")).heard, b"hello")
        self.assert_rejected(
            "member",
            "not other",
            "not node.example",
            allowed_hostname=("other.example", "node.example"),
        )

    def test_revoked(self) -> None:
        """SE16: on the list of its authority; a list that changes is read again."""
        revoked = self.pki.issue("revoked", "client")
        other = self.pki.issue("other", "client")
        path = self.pki.path("crl.pem")

        def write(made: MadePair) -> None:
            found = revoke(self.pki.authority, [made.certificate.serial_number], datetime.now(UTC))
            Path(path).write_bytes(found.public_bytes(Encoding.PEM))

        write(revoked)
        serving = self.serving(crl_file=path)
        met = meet(serving, self.calling("revoked"))
        serial = f"{revoked.certificate.serial_number:x}"
        self.assertIn(f"certificate serial {serial} revoked", met.rejected[0])
        self.assertIn("CN=revoked", met.rejected[0])
        self.assertEqual(meet(serving, self.calling("other")).heard, b"hello")
        write(other)
        os.utime(path, ns=(1, 1))
        self.assertEqual(meet(serving, self.calling("revoked")).heard, b"hello")
        self.assertEqual(meet(serving, self.calling("other")).heard, b"")

    def test_called_revoked(self) -> None:
        """A member that is called with a revoked certificate is refused as well."""
        path = self.pki.path("crl.pem")
        made = self.pki.issue("member", "peer", ["localhost"])
        found = revoke(self.pki.authority, [made.certificate.serial_number], datetime.now(UTC))
        Path(path).write_bytes(found.public_bytes(Encoding.PEM))
        met = meet(self.serving(), self.calling(crl_file=path))
        self.assertIn("revoked", met.refused[0])

    def test_versions(self) -> None:
        """SE8: no version in common."""
        old = contexts(
            max_version="TLS1.2",
            cert_file=self.pki.path("client.crt"),
            key_file=self.pki.path("client.key"),
            trusted_ca_file=self.pki.path("ca.crt"),
        )
        met = meet(self.serving(min_version="TLS1.3"), old)
        self.assertEqual(met.rejected, ["tls: no TLS version is spoken on both sides"])
        self.assertEqual(meet(self.serving(min_version="TLS1.2"), old).heard, b"hello")

    def test_suites(self) -> None:
        """SE7: no cipher suite in common."""
        one, other = (
            f"TLS_ECDHE_ECDSA_WITH_AES_{which}" for which in ("128_GCM_SHA256", "256_GCM_SHA384")
        )
        serving = self.serving(cipher_suites=(one,), max_version="TLS1.2")
        met = meet(serving, self.calling(cipher_suites=(other,)))
        self.assertEqual(met.rejected, ["tls: no cipher suite supported by both client and server"])
        self.assertEqual(meet(serving, self.calling(cipher_suites=(one, other))).heard, b"hello")

    def test_chain(self) -> None:
        """A leaf in the place of an authority vouches for itself, as in Go."""
        met = meet(self.serving(ca="client.crt"), self.calling())
        self.assertEqual(met.heard, b"hello")
        met = meet(self.serving(ca="client.crt"), self.calling("member"))
        self.assertIn("signed by unknown authority", met.rejected[0])

    def test_unverified(self) -> None:
        """TA2: members with automatic certificates take each other's."""
        made = make_self_signed(["10.1.2.3"], datetime.now(UTC), YEAR)
        names = self.pki.path("auto.crt"), self.pki.path("auto.key")
        write_files([(names[0], made.certificate_pem(), 0o644), (names[1], made.key_pem(), 0o600)])
        serving = contexts(cert_file=names[0], key_file=names[1])
        calling = contexts(cert_file=names[0], key_file=names[1], unverified=True)
        self.assertEqual(meet(serving, calling, called="10.9.9.9").heard, b"hello")

    def test_reloaded(self) -> None:
        """SE15: a new pair and a new authority in the same files are used by the next
        connection; half a swap changes nothing."""
        serving = self.serving()
        calling = self.calling()
        other = Secured(Path(os.path.abspath(self.mktemp())))
        os.replace(other.path("member.crt"), self.pki.path("member.crt"))
        self.assertEqual(meet(serving, calling).heard, b"hello", "only half of it is there")
        self.assertEqual((serving.counts.loads, serving.counts.failed_loads), (0, 1))
        os.replace(other.path("member.key"), self.pki.path("member.key"))
        self.assertIn("unknown authority", meet(serving, calling).refused[0])
        self.assertEqual((serving.counts.loads, serving.counts.failed_loads), (1, 1))
        os.replace(other.path("ca.crt"), self.pki.path("ca.crt"))
        self.assertIn("unknown authority", meet(serving, calling).rejected[0])
        os.replace(other.path("client.crt"), self.pki.path("client.crt"))
        os.replace(other.path("client.key"), self.pki.path("client.key"))
        self.assertEqual(meet(serving, calling).heard, b"hello")
        self.assertEqual(meet(serving, calling, called="127.0.0.1").heard, b"hello")


class FakeResolver:
    """Answers from a table of ``name: addresses`` and ``address: names``."""

    def __init__(self, **found: list[str]) -> None:
        self._found = found
        self.asked: list[str] = []

    def _answer(self, name: str, make: Any) -> Deferred[object]:
        self.asked.append(name)
        if name not in self._found:
            raise error.DNSNameError(name)
        records = [dns.RRHeader(type=make.TYPE, payload=make(each)) for each in self._found[name]]
        return succeed((records, [], []))

    def lookupAddress(self, name: str, timeout: object) -> Deferred[object]:
        return self._answer(name, dns.Record_A)

    def lookupIPV6Address(self, name: str, timeout: object) -> Deferred[object]:
        return self._answer(name, dns.Record_AAAA)

    def lookupPointer(self, name: str, timeout: object) -> Deferred[object]:
        return self._answer(name, dns.Record_PTR)


REVERSE = "2.0.138.10.in-addr.arpa"


class AddressTests(PkiCase):
    """Callers come from 10.138.0.2."""

    def meet(
        self, hosts: list[str], found: dict[str, list[str]] | None = None
    ) -> tuple[bytes, str]:
        self.pki.issue("caller", "client", hosts)
        resolver = None if found is None else FakeResolver(**found)
        met = meet(self.serving(resolver=resolver), self.calling("caller"), address="10.138.0.2")
        return met.heard, "".join(met.rejected)

    def test_address(self) -> None:
        """SE10: an address that is not the caller's; both are named."""
        heard, reason = self.meet(["10.138.0.27"])
        self.assertEqual(heard, b"")
        self.assertEqual(reason, "x509: certificate is valid for 10.138.0.27, not 10.138.0.2")
        self.assertEqual(self.meet(["10.138.0.2"])[0], b"hello")
        self.assertEqual(self.meet([])[0], b"hello", "without names there is nothing to compare")

    def test_name(self) -> None:
        """SE11: one of the names leads to the caller, or none does."""
        self.assertEqual(self.meet(["b.com"], {"b.com": ["10.138.0.2"]}), (b"hello", ""))
        heard, reason = self.meet(["b.com"], {"b.com": ["10.138.0.3"]})
        self.assertEqual(heard, b"")
        self.assertTrue(
            reason.startswith('tls: "10.138.0.2" does not match any of DNSNames ["b.com"]'), reason
        )
        self.assertIn("lookup b.com", self.meet(["b.com"], {})[1])

    def test_address_wins(self) -> None:
        """SE12: a matching address is enough; names are not looked up."""
        self.assertEqual(self.meet(["10.138.0.2", "bad.invalid"]), (b"hello", ""))

    def test_wildcard(self) -> None:
        """SE13: a wildcard is for the names that the address is known by."""
        wildcard = ["*.example.default.svc"]
        known = {REVERSE: ["m1.example.default.svc"]}
        self.assertEqual(self.meet(wildcard, known), (b"hello", ""))
        self.assertEqual(self.meet(wildcard, {REVERSE: ["m1.evil.test"]})[0], b"")
        self.assertEqual(self.meet(["m1.example.default.svc"], known)[0], b"hello")
        self.assertIn("*.example.default.svc", self.meet(wildcard, {})[1])

    def test_skipped(self) -> None:
        """SE19: not compared at all."""
        self.pki.issue("caller", "client", ["10.138.0.27"])
        met = meet(
            self.serving(skip_address_check=True), self.calling("caller"), address="10.138.0.2"
        )
        self.assertEqual(met.heard, b"hello")

    def test_unreadable(self) -> None:
        """SE10: names that cannot be read are not taken for none."""
        key = ec.generate_private_key(ec.SECP256R1())
        odd = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x05junk")
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")]))
            .issuer_name(self.pki.authority.certificate.subject)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .add_extension(odd, critical=False)
            .sign(self.pki.authority.key, hashes.SHA384())
        )
        resolver: Any = FakeResolver()
        with self.assertRaisesRegex(TLSRefused, "failed to parse client certificate"):
            check_address(certificate, "10.138.0.2", lambda: resolver)

    def test_ipv6(self) -> None:
        """IPv6 addresses are compared as addresses, IPv4 in IPv6's clothes as IPv4."""
        self.pki.issue("caller", "client", ["::1"])
        calling = self.calling("caller")
        self.assertEqual(meet(self.serving(), calling, address="::1").heard, b"hello")
        mapped = "::ffff:10.138.0.2"
        self.pki.issue("four", "client", ["10.138.0.2"])
        self.assertEqual(meet(self.serving(), self.calling("four"), address=mapped).heard, b"hello")


class SilentTests(PkiCase):
    """Callers who do not speak TLS, or not soon."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.rejected: list[str] = []
        self.listening = secure_listening(
            self.serving(),
            Factory.forProtocol(Echo),
            self.clock,
            lambda _, reason: self.rejected.append(reason),
            self.clock.seconds,
        )

    def call(self) -> tuple[Any, StringTransport]:
        protocol = self.listening.buildProtocol(IPv4Address("TCP", CALLER, 1))
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def test_no_tls(self) -> None:
        """TS2: plain HTTP and noise on a TLS port are closed without an answer."""
        for data, words in (
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "it is a plain HTTP request"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "does not look like a TLS handshake"),
            (bytes(range(64)), "does not look like a TLS handshake"),
        ):
            protocol, transport = self.call()
            protocol.dataReceived(data)
            self.assertTrue(transport.disconnecting)
            protocol.connectionLost(Failure(ConnectionDone()))
            self.assertIn(words, self.rejected.pop())
            self.assertEqual(self.rejected, [])

    def test_slow(self) -> None:
        """Who does not get on with it is turned away; who leaves is not told of twice."""
        protocol, transport = self.call()
        protocol.dataReceived(b"\x16\x03\x01\x02\x00")
        self.clock.advance(HANDSHAKE_SECONDS - 1)
        self.assertEqual((self.rejected, transport.disconnected), ([], False))
        self.clock.advance(1)
        self.assertEqual(self.rejected, ["the TLS handshake took longer than 10 s"])
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.rejected), 1)

    def test_gone(self) -> None:
        """Who leaves at once has said nothing."""
        protocol, _ = self.call()
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.rejected, ["EOF"])

    def test_too_many(self) -> None:
        """Only so many handshakes are under way; when one ends there is room again."""
        self.patch(tls_transport, "HANDSHAKES_MAX", 2)
        first, _ = self.call()
        self.call()
        self.assertIsNone(self.listening.buildProtocol(IPv4Address("TCP", CALLER, 1)))
        first.connectionLost(Failure(ConnectionDone()))
        self.call()


class TurnsTests(PkiCase):
    """Handshakes that wait for their turn."""

    def setUp(self) -> None:
        super().setUp()
        self.waiting: list[Callable[[], None]] = []
        turns = self.waiting

        class Turns:
            def __init__(self, *_: object) -> None: ...

            def run(self, step: Callable[[], None]) -> None:
                turns.append(step)

        self.patch(tls_transport, "HandshakeTurns", Turns)

    def test_order(self) -> None:
        """What a caller sends meanwhile is read after what it sent before."""
        met = meet(self.serving(), self.calling())
        self.waiting.pop(0)()
        met.pump.flush()
        self.say(met, b" more")
        self.waiting.pop(0)()
        self.say(met, b" last")
        for step in self.waiting:
            step()
        met.pump.flush()
        self.assertEqual((met.heard, met.rejected), (b"hello more last", []))

    def test_bounded(self) -> None:
        """Who sends much meanwhile is read no further until it had its turn."""
        made = Factory.forProtocol(Echo)
        listening = secure_listening(self.serving(), made, Clock(), lambda *_: None)
        listening.doStart()
        protocol = listening.buildProtocol(IPv4Address("TCP", CALLER, 1))
        transport = StringTransport()
        protocol.makeConnection(transport)
        for _ in range(HELD_BYTES // 1024 + 1):
            self.assertEqual(transport.producerState, "producing")
            protocol.dataReceived(b"\x16" * 1024)
        self.assertEqual(transport.producerState, "paused")
        self.assertEqual(len(self.waiting), 1)
        self.waiting[0]()
        self.assertEqual(transport.producerState, "producing")

    def test_failure(self) -> None:
        """An error about what a caller sent in its turn ends his connection, and is logged."""
        met = meet(self.serving(), self.calling())
        self.waiting.pop(0)()
        met.pump.flush()
        while len(self.waiting) > 1:
            self.waiting.pop(0)()
        self.patch(Echo, "dataReceived", lambda *_: 1 // 0)
        self.waiting.pop(0)()
        met.pump.flush()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNotNone(met.caller.lost)

    def say(self, met: Meeting, words: bytes) -> None:
        assert met.caller.transport is not None, "the caller is connected"
        met.caller.transport.write(words)
        met.pump.flush()
