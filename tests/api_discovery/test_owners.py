"""Owners' secrets, and writes that wait for a reset."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.discovery.barrier import Barrier
from etcdtw.api.discovery.owners import SECRET_BYTES, hash_of, is_owner, secret_in


class OwnerTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        """P30: only the secret itself makes its hash, and the hash is no secret."""
        secret = "ab" * SECRET_BYTES
        kept = hash_of(secret)
        self.assertTrue(is_owner(secret, kept))
        for wrong in ("", kept, secret[:-1], secret + "a", secret.upper(), "\u00fc"):
            self.assertFalse(is_owner(wrong, kept), wrong)
        self.assertFalse(is_owner(secret, "\u00fc"))
        self.assertGreaterEqual(8 * SECRET_BYTES, 128)

    def test_headers(self) -> None:
        """A bearer's secret is read as RFC 6750 has it; other schemes have none."""
        for header, secret in (
            (b"Bearer abc", "abc"),
            (b"bearer  abc ", "abc"),
            (b"Bearer", ""),
            (b"Basic abc", ""),
            (b"", ""),
            (None, ""),
        ):
            self.assertEqual(secret_in(header), secret, header)


class BarrierTests(SynchronousTestCase):
    def test_waits(self) -> None:
        """P30: what comes for a token meanwhile is done afterwards in its order, whether the reset
        succeeds or not; other tokens are open."""
        barrier = Barrier()
        done: list[str] = []
        for error in (None, ValueError("x")):
            done.clear()
            try:
                with barrier.closed("a"):
                    self.assertEqual(
                        (barrier.is_closed("a"), barrier.is_closed("b")), (True, False)
                    )
                    for name in "xy":
                        barrier.when_open("a", partial(done.append, name))
                    self.assertEqual(done, [])
                    if error is not None:
                        raise error
            except ValueError:
                pass
            self.assertEqual(done, ["x", "y"])
            self.assertFalse(barrier.is_closed("a"))
