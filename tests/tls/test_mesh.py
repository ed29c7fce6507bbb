"""The authority that the members of a cluster derive from a secret."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import ConfigError
from etcdtw.tls.automatic import LOOK_SECONDS, Automatic
from etcdtw.tls.contexts import FileContexts
from etcdtw.tls.interfaces import AutomaticSettings, MeshSettings, TLSSettings
from etcdtw.tls.material import load_pair
from etcdtw.tls.mesh import (
    AUTHORITY_LIFE,
    ORDER,
    derive_key,
    find_authority,
    issue_pair,
    pair_for_calls,
    sign_authority,
)
from etcdtw.tls.pki import YEAR, make_authority
from etcdtw.tls.verdict import alternative_names, usages
from tests.tls.meeting import Meeting, contexts, meet, no_lookups

SECRET = "0123456789abcdef0123456789abcdef"
OTHER = "0123456789abcdef0123456789abcdee"
# Computed apart, with HMAC alone and by adding up points of the curve.
PUBLIC_X = (
    "ea20b3365817b368861e19e61c4b3745a4636fe3dd859246"
    "27f09eded4216587faf490f1df9d96927ffe6712783e6902"
)
PUBLIC_Y = (
    "b661efec595ee84290d1be07baacf432530cf51068867685"
    "5a71969fe81a3fc0ed067b3758b96e0a7bf8eee49e6a07fe"
)
NAME = "CN=etcdtw mesh 6d8e3d9e77c1f039"
HOSTS = ("10.0.1.10", "127.0.0.1", "infra0.example.com", "localhost")
DAY = timedelta(days=1)


def settings(
    directory: str,
    secret: str = SECRET,
    side: str = "peer",
    hosts: tuple[str, ...] = HOSTS,
    has_started: bool = True,
) -> AutomaticSettings:
    """Of a member whose data is in ``directory``."""
    return AutomaticSettings(
        directory=os.path.join(directory, "fixtures", side),
        hosts=hosts,
        years=1,
        mesh=MeshSettings(
            directory=os.path.join(directory, "fixtures", "mesh"),
            flag="initial-cluster-token",
            secret=secret,
            for_clients=side == "client",
            has_started=has_started,
        ),
    )


def mesh_of(automatic: AutomaticSettings) -> MeshSettings:
    assert automatic.mesh is not None, "it has a mesh"
    return automatic.mesh


class MeshCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        self.clock = Clock()
        # Connections are checked by the clock of the machine.
        self.clock.advance(datetime.now(UTC).timestamp())

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    def make(self, wanted: AutomaticSettings) -> Automatic:
        return Automatic(wanted, self.clock, self.clock.seconds)

    def contexts(self, wanted: AutomaticSettings) -> FileContexts:
        """A side whose members are of a mesh."""
        found = TLSSettings(
            side="peer", trusted_ca_file=mesh_of(wanted).ca_file, client_cert_auth=True
        )
        return FileContexts(found, self.make(wanted), no_lookups)

    def member(self, name: str, secret: str = SECRET) -> FileContexts:
        return self.contexts(settings(os.path.join(self.directory, name), secret))


def certificate(automatic: Automatic) -> x509.Certificate:
    return load_pair(automatic.cert_file, automatic.key_file).chain[0]


class DerivationTests(MeshCase):
    def test_key(self) -> None:
        """P6: a secret has one key, for ever, and another secret another."""
        found = derive_key(SECRET).public_key().public_numbers()
        self.assertEqual((f"{found.x:096x}", f"{found.y:096x}"), (PUBLIC_X, PUBLIC_Y))
        self.assertNotEqual(derive_key(OTHER).public_key().public_numbers(), found)
        # The points of 1 and n - 1 are each other's opposites: n is the order of the curve.
        last = ec.derive_private_key(ORDER - 1, ec.SECP384R1()).public_key().public_numbers()
        first = ec.derive_private_key(1, ec.SECP384R1()).public_key().public_numbers()
        self.assertEqual(last.x, first.x)

    def test_authority(self) -> None:
        """It has a name of its key, may sign others but no authorities, and lives for long."""
        found = sign_authority(derive_key(SECRET), self.now).certificate
        self.assertEqual(found.subject.rfc4514_string(), NAME)
        self.assertEqual(found.issuer, found.subject)
        limits = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        self.assertEqual((limits.ca, limits.path_length), (True, 0))
        self.assertLess(found.not_valid_before_utc, self.now - DAY)
        self.assertGreater(found.not_valid_after_utc, self.now + AUTHORITY_LIFE - 2 * DAY)
        other = sign_authority(derive_key(OTHER), self.now).certificate
        self.assertNotEqual(other.subject, found.subject)

    def test_across_members(self) -> None:
        """A certificate that one member issued is of the authority that another one has."""
        for apart in (timedelta(0), DAY / 2, 5 * YEAR):
            mine = sign_authority(derive_key(SECRET), self.now)
            theirs = sign_authority(derive_key(SECRET), self.now + apart)
            made = issue_pair(theirs, "peer", HOSTS, self.now + apart, 1).certificate
            made.verify_directly_issued_by(mine.certificate)
            self.assertNotEqual(mine.certificate, theirs.certificate)
        other = sign_authority(derive_key(OTHER), self.now)
        self.assertRaises(ValueError, made.verify_directly_issued_by, other.certificate)

    def test_secret_is_not_shown(self) -> None:
        """The settings' text, which may get into a log, is without it."""
        self.assertNotIn(SECRET, repr(settings(self.directory)))


class FileTests(MeshCase):
    def test_files(self) -> None:
        """Where they are, and who may read them."""
        for side in ("peer", "client"):
            self.make(settings(self.directory, side=side))
        pair = ["cert.pem", "key.pem"]
        for folder, names in (
            ("mesh", ["ca-key.pem", "ca.pem"]),
            ("peer", pair),
            ("client", ["cert.pem", "client-key.pem", "client.pem", "key.pem"]),
        ):
            path = os.path.join(self.directory, "fixtures", folder)
            self.assertEqual(sorted(os.listdir(path)), names)
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
            for name in names:
                mode = stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode)
                self.assertEqual(mode, 0o600 if name.endswith("key.pem") else 0o644, name)

    def test_pairs(self) -> None:
        """A member's is for its hosts and both directions, a client's for no host and one."""
        automatic = self.make(settings(self.directory, side="client"))
        found = certificate(automatic)
        self.assertEqual(usages(found), "serverAuth, clientAuth")
        self.assertEqual(
            alternative_names(found),
            (["infra0.example.com", "localhost"], ["10.0.1.10", "127.0.0.1"]),
        )
        self.assertEqual(found.issuer.rfc4514_string(), NAME)
        key = found.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey), "it is ECDSA"
        self.assertEqual(key.curve.name, "secp384r1")
        self.assertLess(abs(found.not_valid_after_utc - self.now - YEAR), timedelta(seconds=2))
        folder = os.path.dirname(automatic.cert_file)
        pair = load_pair(*(os.path.join(folder, f"client{each}.pem") for each in ("", "-key")))
        self.assertEqual(usages(pair.chain[0]), "clientAuth")
        self.assertEqual(alternative_names(pair.chain[0]), ([], []))

    def test_used_again(self) -> None:
        """After a restart, also without the secret; another secret changes nothing either."""
        wanted = settings(self.directory)
        first = certificate(self.make(wanted))
        authority = Path(mesh_of(wanted).ca_file).read_bytes()
        for secret in (SECRET, "etcd-cluster", "", OTHER):
            again = self.make(settings(self.directory, secret))
            self.assertEqual(certificate(again), first)
            self.assertEqual(Path(mesh_of(wanted).ca_file).read_bytes(), authority)

    def test_came_to_nothing(self) -> None:
        """What a start has left that was refused does not count when the flag has changed."""
        self.make(settings(self.directory, OTHER))
        wanted = settings(self.directory, has_started=False)
        for _ in range(2):
            found = certificate(self.make(wanted))
            self.assertEqual(found.issuer.rfc4514_string(), NAME)
        copied = settings(self.directory, "etcd-cluster", has_started=False)
        self.assertEqual(certificate(self.make(copied)), found)

    def test_switched(self) -> None:
        """A pair of another authority, or of none, is made again; so is one for other hosts."""
        wanted = settings(self.directory)
        plain = certificate(self.make(replace(wanted, mesh=None)))
        automatic = self.make(wanted)
        first = certificate(automatic)
        self.assertNotEqual(first, plain)
        self.assertEqual(first.issuer.rfc4514_string(), NAME)
        moved = certificate(self.make(replace(wanted, hosts=("10.0.1.11", *HOSTS[1:]))))
        self.assertEqual(alternative_names(moved)[1], ["10.0.1.11", "127.0.0.1"])
        for name in os.listdir(mesh_of(wanted).directory):
            os.remove(os.path.join(mesh_of(wanted).directory, name))
        other = certificate(self.make(settings(self.directory, OTHER)))
        self.assertNotIn(NAME, other.issuer.rfc4514_string())

    def test_renewed(self) -> None:
        """Pairs after two thirds of their life and the authority after two thirds of its own, while
        the member runs; the authority stays the same for everybody."""
        wanted = settings(self.directory, side="client")
        before = find_authority(mesh_of(settings("elsewhere")), self.now).certificate
        automatic = self.make(wanted)
        automatic.start()
        client = os.path.join(wanted.directory, "client.pem")
        for _ in range(40):
            seen = certificate(automatic), Path(client).read_bytes()
            self.clock.advance(YEAR.total_seconds() * 0.8)
            found = certificate(automatic)
            self.assertNotEqual(found, seen[0])
            self.assertNotEqual(Path(client).read_bytes(), seen[1])
            self.assertLess(self.now + 300 * DAY, found.not_valid_after_utc)
            found.verify_directly_issued_by(before)
        authority = load_pair(mesh_of(wanted).ca_file, mesh_of(wanted).key_file).chain[0]
        self.assertLess(self.now, authority.not_valid_after_utc)
        self.assertEqual(authority.public_key(), before.public_key())
        automatic.stop()
        self.clock.advance(2 * LOOK_SECONDS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clock_set_back(self) -> None:
        """What was made while the clock was ahead is made again, by the same key."""
        wanted = settings(self.directory)
        late = Automatic(wanted, self.clock, lambda: self.clock.seconds() + YEAR.total_seconds())
        ahead = certificate(late)
        found = certificate(self.make(wanted))
        self.assertLess(found.not_valid_before_utc, self.now)
        self.assertNotEqual(found, ahead)
        authority = load_pair(mesh_of(wanted).ca_file, mesh_of(wanted).key_file).chain[0]
        self.assertLess(authority.not_valid_before_utc, self.now)
        found.verify_directly_issued_by(authority)

    def test_lost_while_running(self) -> None:
        """An authority that has gone, and cannot be made again, does not end the member."""
        wanted = settings(self.directory)
        automatic = self.make(wanted)
        without = self.make(settings(self.directory, ""))
        without.start()
        first = certificate(automatic)
        os.remove(mesh_of(wanted).key_file)
        self.clock.advance(LOOK_SECONDS)
        self.assertEqual(certificate(automatic), first)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        without.stop()

    def test_own_authority(self) -> None:
        """Somebody's own authority in its place is used, and never signed anew."""
        wanted = settings(self.directory)
        self.make(wanted)
        other = sign_authority(derive_key(OTHER), self.now - AUTHORITY_LIFE * 0.9)
        own = make_authority("own", self.now - 25 * YEAR, 30 * YEAR, other.key)
        Path(mesh_of(wanted).ca_file).write_bytes(own.certificate_pem())
        Path(mesh_of(wanted).key_file).write_bytes(own.key_pem())
        found = certificate(self.make(wanted))
        self.assertEqual(found.issuer.rfc4514_string(), "CN=own")
        self.assertEqual(Path(mesh_of(wanted).ca_file).read_bytes(), own.certificate_pem())


class RefusalTests(MeshCase):
    def refusal(self, secret: str) -> ConfigError:
        with self.assertRaises(ConfigError) as refused:
            self.make(settings(self.directory, secret))
        error: ConfigError = refused.exception
        return error

    def test_secrets(self) -> None:
        """The default token, and one that could be guessed, with the flag and what to do."""
        for secret, words in (
            ("etcd-cluster", "is the default"),
            ("x" * 31, "has only 31 characters"),
            ("", "has only 0 characters"),
        ):
            error = self.refusal(secret)
            self.assertEqual(error.flag, "initial-cluster-token")
            for each in ("--initial-cluster-token", words, "openssl rand -hex 16"):
                self.assertIn(each, error.reason)
            self.assertFalse(os.path.exists(self.directory))

    def test_half_written(self) -> None:
        """Files that a start wrote only half are made again of the secret, and refused by their
        name without one."""
        wanted = settings(self.directory)
        self.make(wanted)
        mesh = mesh_of(wanted)
        for path in (mesh.ca_file, mesh.key_file):
            Path(path).write_bytes(b"-----BEGIN")
            self.assertIn(path, self.refusal("etcd-cluster").reason)
            self.assertEqual(certificate(self.make(wanted)).issuer.rfc4514_string(), NAME)
            os.remove(path)
            self.assertEqual(self.refusal("").flag, "initial-cluster-token")
            self.make(wanted)


class MeetingTests(MeshCase):
    def assert_met(self, met: Meeting) -> None:
        self.assertEqual((met.heard, met.rejected, met.refused), (b"hello", [], []))

    def test_members(self) -> None:
        """P6: members with one secret let each other in; who has another, or nothing to show, is
        refused in one line that names what was wrong."""
        first, second = self.member("first"), self.member("second")
        for called in ("localhost", "127.0.0.1", "infra0.example.com"):
            self.assert_met(meet(first, second, called=called))
            self.assert_met(meet(second, first, called=called))
        stranger = self.member("stranger", OTHER)
        met = meet(first, stranger)
        # The caller looks first: it is not even told who calls.
        self.assertEqual((met.heard, len(met.refused)), (b"", 1))
        for word in ("x509: certificate signed by unknown authority", NAME):
            self.assertIn(word, met.refused[0])
        ca = mesh_of(settings(os.path.join(self.directory, "first"))).ca_file
        pair = settings(os.path.join(self.directory, "stranger")).directory
        forged = contexts(
            trusted_ca_file=ca,
            cert_file=os.path.join(pair, "cert.pem"),
            key_file=os.path.join(pair, "key.pem"),
        )
        met = meet(first, forged)
        self.assertIn("x509: certificate signed by unknown authority", met.rejected[0])
        self.assertIn("etcdtw mesh", met.rejected[0])
        met = meet(first, contexts(trusted_ca_file=ca))
        self.assertIn("tls: client didn't provide a certificate", met.rejected[0])

    def test_other_place(self) -> None:
        """A member's certificate is good where its hosts are, and nowhere else."""
        first, second = self.member("first"), self.member("second")
        self.assert_met(meet(first, second, address="10.0.1.10"))
        met = meet(first, second, called="10.0.1.11")
        self.assertIn("not 10.0.1.11", met.refused[0])

    def test_client(self) -> None:
        """The pair for clients is let in from anywhere, and cannot be taken for a member's."""
        wanted = settings(self.directory, side="client")
        serving = self.contexts(wanted)
        pair = {
            "cert_file": os.path.join(wanted.directory, "client.pem"),
            "key_file": os.path.join(wanted.directory, "client-key.pem"),
        }
        calling = contexts("client", trusted_ca_file=mesh_of(wanted).ca_file, **pair)
        self.assert_met(meet(serving, calling, address="192.0.2.7"))
        met = meet(contexts("client", **pair), calling)
        self.assertIn("incompatible key usage", met.refused[0])

    def test_held(self) -> None:
        """Calls can be made before there is a directory, and leave none."""
        wanted = settings(os.path.join(self.directory, "asking"))

        def asking(wanted: AutomaticSettings) -> FileContexts:
            held = pair_for_calls(wanted, mesh_of(wanted), self.now)
            found = TLSSettings(side="peer", trusted_ca_file=mesh_of(wanted).ca_file)
            return FileContexts(found, None, no_lookups, held)

        serving = self.member("first")
        self.assert_met(meet(serving, asking(wanted)))
        self.assertFalse(os.path.exists(os.path.join(self.directory, "asking")))
        met = meet(serving, asking(settings(os.path.join(self.directory, "asking"), OTHER)))
        for word in ("x509: certificate signed by unknown authority", "not in the mesh of"):
            self.assertIn(word, met.refused[0])
        met = meet(serving, asking(wanted), called="10.0.1.11")
        self.assertIn("not 10.0.1.11", met.refused[0])
        kept = asking(settings(os.path.join(self.directory, "first"), "etcd-cluster"))
        self.assert_met(meet(serving, kept))
