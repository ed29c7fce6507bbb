"""URLs by the rules of Go and etcd; the texts were seen from etcd 3.5.1."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.config.urls import (
    is_ip_address,
    is_loopback,
    parse_initial_cluster,
    parse_url,
    parse_url_list,
    split_host_port,
)

REFUSALS = {
    "127.0.0.1:26000": ('parse "127.0.0.1:26000": first path segment in URL cannot contain colon'),
    "http://127.0.0.1": 'URL address does not have the form "host:port": http://127.0.0.1',
    "http://127.0.0.1:1/x": "URL must not contain a path: http://127.0.0.1:1/x",
    "HTTP://127.0.0.1:1/": "URL must not contain a path: HTTP://127.0.0.1:1/",
    "ftp://127.0.0.1:1": "URL scheme must be http, https, unix, or unixs: ftp://127.0.0.1:1",
    "": "URL scheme must be http, https, unix, or unixs: ",
    "x": "URL scheme must be http, https, unix, or unixs: x",
    "unix:///tmp/sock": 'URL address does not have the form "host:port": unix:///tmp/sock',
    "http://127.0.0.1:abc": 'parse "http://127.0.0.1:abc": invalid port ":abc" after host',
    "http://a:b:c": 'parse "http://a:b:c": invalid port ":c" after host',
    "http://12 7.0.0.1:1": 'parse "http://12 7.0.0.1:1": invalid character " " in host name',
    "http://[::1:26101": "parse \"http://[::1:26101\": missing ']' in host",
    "%zz": 'parse "%zz": invalid URL escape "%zz"',
    "http://[::1%eth0]:1": 'parse "http://[::1%eth0]:1": invalid URL escape "%et"',
    "http://%41:1": 'parse "http://%41:1": invalid URL escape "%41"',
    ":x": 'parse ":x": missing protocol scheme',
    "http://a\x7f:1": 'parse "http://a\x7f:1": net/url: invalid control character in URL',
}


class URLTests(SynchronousTestCase):
    def test_refusals(self) -> None:
        """Every kind of malformed URL is refused with etcd's text."""
        for text, words in REFUSALS.items():
            error = self.assertRaises(ValueError, parse_url_list, [text])
            self.assertEqual(str(error), words)

    def test_list_is_sorted(self) -> None:
        """A list is trimmed, has lower-case schemes and is sorted as text."""
        self.assertEqual(
            parse_url_list([" http://b:2", "HTTPS://a:1 ", "http://[::1]:9"]),
            ("http://[::1]:9", "http://b:2", "https://a:1"),
        )

    def test_parts(self) -> None:
        """A URL with everything in it comes apart and together again."""
        url = parse_url("http://u:p@h:1/p%20q?x=1#f")
        self.assertEqual(
            (url.userinfo, url.host, url.path, url.query), ("u:p", "h:1", "/p%20q", "?x=1")
        )
        self.assertEqual(str(url), "http://u:p@h:1/p%20q?x=1")

    def test_host_port(self) -> None:
        """IPv6 addresses stand in brackets; one colon separates the port otherwise."""
        self.assertEqual(split_host_port("[::1]:2379"), ("::1", "2379"))
        self.assertEqual(split_host_port(":2379"), ("", "2379"))
        for text in ("a", "::1", "[::1]", "[::1"):
            self.assertRaises(ValueError, split_host_port, text)

    def test_addresses(self) -> None:
        """Only numeric addresses without a zone are addresses; 127/8, ::1, localhost are local."""
        self.assertTrue(is_ip_address("10.0.0.1") and is_ip_address("fe80::1"))
        self.assertFalse(is_ip_address("fe80::1%eth0") or is_ip_address("localhost"))
        self.assertTrue(is_loopback("localhost") and is_loopback("127.9.9.9"))
        self.assertTrue(is_loopback("::1") and is_loopback("0:0::1"))
        for other in ("10.0.0.1", "example.com", "::2", "::", "::ffff:127.0.0.1", "127.1", ""):
            self.assertFalse(is_loopback(other), other)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(max_size=30))
    def test_no_surprises(self, text: str) -> None:
        """Any text either gives a URL list that parses to itself or a ValueError."""
        try:
            urls = parse_url_list([text])
        except ValueError:
            return
        self.assertEqual(parse_url_list(list(urls)), urls)


class InitialClusterTests(SynchronousTestCase):
    def test_members(self) -> None:
        """Members come by name; a repeated name has several URLs; empty parts are skipped."""
        self.assertEqual(
            parse_initial_cluster("m1=http://b:2,m0=http://d:4,,m1=http://a:1,"),
            (("m0", ("http://d:4",)), ("m1", ("http://a:1", "http://b:2"))),
        )
        self.assertEqual(parse_initial_cluster(""), ())

    def test_empty_name(self) -> None:
        """An empty name is a name."""
        self.assertEqual(parse_initial_cluster("=http://a:1"), (("", ("http://a:1",)),))
