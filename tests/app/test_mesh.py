"""A member with an authority of the cluster's own: of which secret, and what is refused."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.mesh import mesh_problems, mesh_settings
from etcdtw.app.secure import asking_tls, client_tls, peer_tls, tls_problems
from etcdtw.app.settings import MemberSettings
from etcdtw.config.load import member_settings
from etcdtw.tls.providers import FILES
from tests.app.test_check import CheckCase

SECRET = "0123456789abcdef0123456789abcdef"
NAME = "CN=etcdtw mesh 6d8e3d9e77c1f039"
URLS = {
    "listen_peer_urls": ("https://127.0.0.1:1",),
    "initial_advertise_peer_urls": ("https://127.0.0.1:1",),
    "listen_client_urls": ("https://127.0.0.1:2",),
    "advertise_client_urls": ("https://127.0.0.1:2",),
    "initial_cluster": "default=https://127.0.0.1:1",
}


class MeshCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory)

    def settings(self, **changes: Any) -> MemberSettings:
        both = {"auto_tls": "mesh", "peer_auto_tls": "mesh"}
        return member_settings(self.directory, **{**URLS, **both, **changes})

    def start(self, settings: MemberSettings) -> None:
        """As far as certificates are concerned."""
        for each in (client_tls, peer_tls):
            FILES.make(each(settings), None)


class SecretTests(MeshCase):
    def test_which(self) -> None:
        """The token of a discovery URL or of v3 discovery, else that of the cluster."""
        for changes, flag, secret in (
            ({}, "initial-cluster-token", SECRET),
            ({"discovery": f"https://a.example/b/{'c' * 32}"}, "discovery", "c" * 32),
            ({"discovery": f"http://a:1/v2/keys/{'c' * 32}/?x=y"}, "discovery", "c" * 32),
            (
                {"discovery_token": "d" * 32, "discovery_endpoints": ("a:1",)},
                "discovery-token",
                "d" * 32,
            ),
        ):
            if changes:
                changes["initial_cluster"] = ""
            settings = self.settings(initial_cluster_token=SECRET, **changes)
            for side in ("client", "peer"):
                found = mesh_settings(settings, side)
                self.assertEqual((found.flag, found.secret), (flag, secret))
                self.assertEqual(found.for_clients, side == "client")

    def test_refused(self) -> None:
        """One problem for both sides, which names the flag; none without a mesh, or where given
        certificates count instead."""
        for changes, words in (
            ({}, "--initial-cluster-token is the default"),
            ({"initial_cluster_token": "short"}, "has only 5 characters"),
        ):
            found = tls_problems(self.settings(**changes), None)
            self.assertEqual([each.flag for each in found], ["initial-cluster-token"])
            self.assertIn(words, found[0].reason)
        self.assertEqual(tls_problems(self.settings(initial_cluster_token=SECRET), None), [])
        plain = self.settings(auto_tls=True, peer_auto_tls=True)
        self.assertEqual(tls_problems(plain, None), [])
        given = {"cert_file": "/x", "key_file": "/y"}
        with_files = self.settings(**given, **{f"peer_{each}": "/z" for each in given})
        self.assertEqual(mesh_problems(with_files), [])
        self.assertEqual(os.listdir(self.directory), [])

    def test_after_the_first_start(self) -> None:
        """ST26: what a first start has made needs no token any more."""
        self.start(self.settings(initial_cluster_token=SECRET))
        self.assertEqual(tls_problems(self.settings(), None), [])
        self.start(self.settings())

    def test_unreadable(self) -> None:
        """Kept files that are something else are refused by their name."""
        settings = self.settings(initial_cluster_token=SECRET)
        self.start(settings)
        mesh = mesh_settings(settings, "peer")
        os.remove(mesh.ca_file)
        os.mkdir(mesh.ca_file)
        found = tls_problems(settings, None)
        self.assertEqual(len(found), 1)
        self.assertIn(mesh.ca_file, found[0].reason)


class SideTests(MeshCase):
    def test_sides(self) -> None:
        """Each side checks by the same authority and asks for certificates, as if that were given;
        given certificates win."""
        settings = self.settings(initial_cluster_token=SECRET)
        for found in (client_tls(settings), peer_tls(settings)):
            self.assertEqual(found.trusted_ca_file, mesh_settings(settings, "peer").ca_file)
            self.assertTrue(found.client_cert_auth)
        self.assertTrue(settings.bootstrap().has_authority)
        given = self.settings(cert_file="/x", peer_key_file="/y")
        for found in (client_tls(given), peer_tls(given)):
            self.assertIsNone(found.automatic)
            self.assertEqual(found.trusted_ca_file, "")
            self.assertFalse(found.client_cert_auth)
        self.assertFalse(given.bootstrap().has_authority)
        plain = self.settings(auto_tls=True, peer_auto_tls=True)
        for found in (client_tls(plain), peer_tls(plain)):
            assert found.automatic is not None, "it makes a pair"
            self.assertIsNone(found.automatic.mesh)
            self.assertFalse(found.client_cert_auth)

    def test_asking(self) -> None:
        """Who asks before there is a directory makes none."""
        asking_tls(self.settings(initial_cluster_token=SECRET), None).calling("127.0.0.1")
        self.assertEqual(os.listdir(self.directory), [])


class CheckTests(CheckCase):
    def test_mesh(self) -> None:
        """A dry run names the authority, by which members can be compared, and writes nothing."""
        words = (
            *("--listen-client-urls=https://localhost:1", "--advertise-client-urls=https://a:1"),
            *("--listen-peer-urls=https://localhost:2", "--peer-auto-tls=mesh", "--auto-tls=mesh"),
        )
        said, refused = self.check(*words, f"--initial-cluster-token={SECRET}")
        self.assertIsNone(refused)
        for side, plural in (("client", "clients"), ("peer", "peers")):
            directory = os.path.join(self.directory, "default.etcd", "fixtures", side)
            self.assertIn(
                f"TLS for {plural}: a certificate of the cluster's own authority, made in "
                f"{directory}\n  {plural} must show a certificate; checked against {NAME}, made "
                "from the token of --initial-cluster-token\n",
                said,
            )
        said, refused = self.check(*words)
        assert refused is not None, "it has no secret"
        self.assertIn("refused: automatic TLS as mesh needs a secret", said)
        self.assertEqual(len(refused.problems), 1)
