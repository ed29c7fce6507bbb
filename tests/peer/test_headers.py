"""What the headers of the peer protocol say."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer.headers import incompatible, version_of


class HeaderTests(SynchronousTestCase):
    def test_versions(self) -> None:
        """Versions that are none, of thousands of digits too, are those of somebody very old."""
        for text in ("3.5.1", "3.0.0", "3.5.0-pre"):
            self.assertFalse(self._refused(text, "3.0.0"), text)
        for text in ("2.3.8", "", "x", "9" * 5000, "3." + "9" * 5000):
            self.assertTrue(self._refused(text, "3.0.0"), text[:9])
        self.assertTrue(self._refused("3.5.1", "4.0.0"))
        self.assertEqual(version_of({b"x-server-version": b"9" * 5000}), (2, 0))

    def _refused(self, version: str, least: str) -> bool:
        found = {b"x-server-version": version.encode(), b"x-min-cluster-version": least.encode()}
        return incompatible(found.get)
