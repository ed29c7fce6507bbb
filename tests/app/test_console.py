"""What the console command imports, and what it leaves out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app.console import may_want_tls
from etcdtw.lean import HELD_AWAY, STANDING_IN, spared

PROJECT = Path(__file__).resolve().parents[2]


class MayWantTlsTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Plain URLs, and variables that are not etcd's, ask for no TLS."""
        words = ["--name=a", "--listen-client-urls", "http://10.0.0.1:2379", "--enable-v2"]
        variables = {
            "ETCD_DATA_DIR": "/data",
            "SSL_CERT_FILE": "/etc/ca.pem",
            "ETCDCTL_CACERT": "ca.pem",
        }
        self.assertFalse(may_want_tls(words, variables))
        self.assertFalse(may_want_tls([], {}))

    def test_flags(self) -> None:
        """Secure URLs, certificates, discovery, tokens and a file that may hold any of these do."""
        for word in (
            "--listen-client-urls=http://a:1,https://a:2",
            "--initial-cluster=a=HTTPS://a:2380",
            "--listen-peer-urls=unixs://a",
            "--cert-file=x",
            "-peer-key-file",
            "--trusted-ca-file",
            "--auto-tls",
            "--peer-auto-tls=true",
            "--client-cert-auth",
            "--peer-crl-file=x",
            "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA",
            "--auth-token=jwt,pub-key=x",
            "--config-file=x",
            "--discovery=http://a/b",
            "--discovery-srv=example.com",
        ):
            self.assertTrue(may_want_tls(["--name=a", word], {}), word)

    def test_variables(self) -> None:
        """So do their variables, by name or by value."""
        for name, value in (
            ("ETCD_CONFIG_FILE", "x"),
            ("ETCD_PEER_AUTO_TLS", "true"),
            ("ETCD_TRUSTED_CA_FILE", "x"),
            ("ETCD_LISTEN_CLIENT_URLS", "https://a:1"),
        ):
            self.assertTrue(may_want_tls([], {name: value}), name)


class SparedTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.names = {"etcdtw_test_optional", "etcdtw_test_mentioned"}
        for name in self.names:
            (directory / f"{name}.py").write_text("ONE = 1\nTWO = 2\n", encoding="utf-8")
        self.patch(sys, "path", [str(directory.absolute()), *sys.path])
        self.addCleanup(self.forget)

    def forget(self) -> None:
        for name in self.names:
            sys.modules.pop(name, None)

    def test_held_away(self) -> None:
        """A module held away is missing within and there afterwards."""
        with spared(["etcdtw_test_optional"], {}):
            self.assertRaises(ImportError, __import__, "etcdtw_test_optional")
        self.assertEqual(__import__("etcdtw_test_optional").ONE, 1)

    def test_standing_in(self) -> None:
        """A stand-in has what it was given and loads its module for anything else, also when it
        is asked long afterwards; a later import gives the module itself."""
        given = {"etcdtw_test_mentioned": {"ONE": 10}}
        with spared([], given):
            stand_in = __import__("etcdtw_test_mentioned")
            self.assertEqual(stand_in.ONE, 10)
        self.assertNotIn("etcdtw_test_mentioned", sys.modules)
        self.assertEqual(stand_in.TWO, 2)
        module = __import__("etcdtw_test_mentioned")
        self.assertIsNot(module, stand_in)
        self.assertEqual(module.ONE, 1)

    def test_used_within(self) -> None:
        """A stand-in that must load within leaves the module in its place."""
        with spared([], {"etcdtw_test_mentioned": {}}):
            self.assertEqual(__import__("etcdtw_test_mentioned").TWO, 2)
        self.assertIn("ONE", vars(sys.modules["etcdtw_test_mentioned"]))

    def test_unknown_name(self) -> None:
        """A name that neither has is an AttributeError."""
        with spared([], {"etcdtw_test_mentioned": {}}):
            stand_in = __import__("etcdtw_test_mentioned")
        self.assertRaises(AttributeError, getattr, stand_in, "THREE")

    def test_loaded_before(self) -> None:
        """Modules that were there before stay, also when the block fails."""
        loaded = {name: __import__(name) for name in self.names}
        block = spared(["etcdtw_test_optional"], {"etcdtw_test_mentioned": {}})
        with self.assertRaises(ZeroDivisionError), block:
            self.assertEqual({name: __import__(name) for name in self.names}, loaded)
            raise ZeroDivisionError
        self.assertEqual({name: sys.modules[name] for name in self.names}, loaded)


class ImportLeanTests(SynchronousTestCase):
    def run_python(self, code: str, with_tls: bool = False) -> str:
        """What a fresh Python prints after the console's imports."""
        begin = f"import sys\nfrom etcdtw import lean\nlean.import_lean({with_tls})\n"
        done = subprocess.run(
            [sys.executable, "-c", begin + code],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_left_out(self) -> None:
        """With the whole member imported and the plugins listed, nothing of TLS is loaded, nor
        any module spared, and no mark is left behind."""
        said = self.run_python(
            "lean.import_also('etcdtw.app.main', 'etcdtw.app.member')\n"
            "import etcdtw.app.main, etcdtw.app.member, twisted.internet.reactor\n"
            "etcdtw.app.main.bootstrap_factories()\n"
            "spared = {*lean.HELD_AWAY, *lean.PARTS_OF_TLS, *lean.STANDING_IN, '_ssl',"
            " 'twisted.protocols.tls', 'twisted.web.server', 'yaml'}\n"
            "print(sorted(spared & set(sys.modules)))\n"
        )
        self.assertEqual(said, "[]\n")

    def test_callers(self) -> None:
        """Who calls other members over plain TCP loads nothing of TLS either."""
        said = self.run_python(
            "from twisted.internet import reactor\n"
            "from etcdtw.peer.calling import HttpCaller\n"
            "caller = HttpCaller(reactor, 1.0)\n"
            "caller.call(b'GET', 'http://127.0.0.1:1/version', {}).addErrback(print)\n"
            "print(sorted({*lean.HELD_AWAY, *lean.PARTS_OF_TLS} & set(sys.modules)))\n"
        )
        self.assertEqual(said, "[]\n")

    def test_with_tls(self) -> None:
        """Where TLS may be asked for its parts are there, and little else that is spared."""
        said = self.run_python(
            "import etcdtw.app.main, etcdtw.app.member, twisted.internet.reactor\n"
            "import etcdtw.tls.contexts, etcdtw.tls.automatic\n"
            "etcdtw.app.main.bootstrap_factories()\n"
            "from twisted.internet.ssl import optionsForClientTLS\n"
            "optionsForClientTLS('a')\n"
            "spared = {'h2', 'asyncio', 'http.cookiejar', 'unittest', 'ctypes'}\n"
            "print(sorted(spared & set(sys.modules)))\n"
            "print(sorted({*lean.PARTS_OF_TLS} & set(sys.modules)))\n",
            with_tls=True,
        )
        self.assertEqual(said, "[]\n['OpenSSL', 'cryptography', 'service_identity']\n")

    def test_later(self) -> None:
        """What was left out can be imported afterwards: TLS on Twisted's transports works, and
        so do asyncio, cookies and the digests of hashlib."""
        said = self.run_python(
            "from twisted.internet.ssl import optionsForClientTLS\n"
            "from twisted.internet.protocol import Factory, Protocol\n"
            "from twisted.internet.testing import StringTransport\n"
            "from twisted.protocols.tls import TLSMemoryBIOFactory\n"
            "from twisted.internet.task import Clock\n"
            "factory = TLSMemoryBIOFactory(optionsForClientTLS('a'), True,"
            " Factory.forProtocol(Protocol), Clock())\n"
            "protocol = factory.buildProtocol(None)\n"
            "transport = StringTransport()\n"
            "protocol.makeConnection(transport)\n"
            "print(transport.value()[:2])\n"
            "import asyncio, hashlib, http.cookiejar\n"
            "from twisted.internet.defer import Deferred\n"
            "async def one(): return 1\n"
            "Deferred.fromCoroutine(one()).addCallback(print)\n"
            "loop = asyncio.new_event_loop()\n"
            "d = Deferred(); future = d.asFuture(loop); d.callback(2)\n"
            "print(loop.run_until_complete(future))\n"
            "print(http.cookiejar.CookieJar().__class__.__name__)\n"
            "print(hashlib.sha256(b'').hexdigest()[:8])\n"
        )
        self.assertEqual(said.split("\n"), ["b'\\x16\\x03'", "1", "2", "CookieJar", "e3b0c442", ""])

    def test_used_by_their_holders(self) -> None:
        """Who was given a stand-in can use what it stands for."""
        said = self.run_python(
            "import io\n"
            "from twisted.web import http\n"
            "from twisted.python import compat, filepath, zippath\n"
            "from twisted.logger import STDLibLogObserver\n"
            "form = b'--x\\r\\nContent-Disposition: form-data; name=a\\r\\n'\n"
            "form += b'\\r\\n1\\r\\n--x--\\r\\n'\n"
            "kind = b'multipart/form-data; boundary=x'\n"
            "print(dict(http._getMultiPartArgs(form, kind)))\n"
            "print(http._parseContentType(kind))\n"
            "print(http.stringToDatetime(b'Sun, 06 Nov 1994 08:49:37 GMT'))\n"
            "print(http._getContentFile(200_000).write(b'abc'))\n"
            "print(compat.escape('<'), compat.cookielib.CookiePolicy.__name__)\n"
            "import zipfile\n"
            "file = io.BytesIO()\n"
            "with zipfile.ZipFile(file, 'w') as made: made.writestr('a', b'12345')\n"
            "archive = io.BytesIO(file.getvalue())\n"
            "print(zippath.ZipFile(archive).namelist())\n"
            "STDLibLogObserver()\n"
            "from twisted.internet.address import IPv4Address\n"
            "IPv4Address('TCP', '127.0.0.1', 1)\n"
            "try: IPv4Address('SCTP', '127.0.0.1', 1)\n"
            "except ValueError as error: print(error.args[0])\n"
            "import logging, platform, typing_extensions\n"
            "print(logging.getLevelName(30), platform.python_version() != '')\n"
            "print(typing_extensions.TypeVar('T', default=int).__default__)\n"
        )
        expected = (
            "{b'a': [b'1']}",
            "b'multipart/form-data'",
            "784111777",
            "3",
            "&lt; CookiePolicy",
            "['a']",
            "'type' must be in ['TCP', 'UDP'] (got 'SCTP')",
            "WARNING True",
            "<class 'int'>",
            "",
        )
        self.assertEqual(said.split("\n"), list(expected))

    def test_later_than_a_call(self) -> None:
        """Calls of others leave nothing behind that lacks TLS for who imports it afterwards, such
        as the page of metrics."""
        said = self.run_python(
            "from etcdtw.lean import import_also\n"
            "import_also('twisted.web.client', 'twisted.internet.endpoints')\n"
            "import http.client, urllib.request, prometheus_client\n"
            "print(http.client.HTTPSConnection.__name__, urllib.request.HTTPSHandler.__name__)\n"
        )
        self.assertEqual(said, "HTTPSConnection HTTPSHandler\n")

    def test_names(self) -> None:
        """No module is both held away and stood in for."""
        self.assertEqual(set(HELD_AWAY) & set(STANDING_IN), set())
