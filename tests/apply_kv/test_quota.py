"""The space quota."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.apply.quota import DEFAULT_QUOTA_BYTES, Quota


class QuotaTests(SynchronousTestCase):
    def quota(self, size: int, limit: int) -> Quota:
        self.size = size
        self.looks = 0

        def look() -> int:
            self.looks += 1
            return self.size

        return Quota(look, limit)

    def test_limit(self) -> None:
        """A request fits as long as it leaves at least a byte."""
        self.assertFalse(self.quota(90, 100).exceeded_by(9))
        self.assertTrue(self.quota(90, 100).exceeded_by(10))

    def test_free_requests_always_fit(self) -> None:
        """What costs nothing fits a full backend."""
        self.assertFalse(self.quota(1000, 100).exceeded_by(0))

    def test_default_and_none(self) -> None:
        """0 stands for the default of 2 GiB, a negative limit for none."""
        self.assertTrue(self.quota(DEFAULT_QUOTA_BYTES, 0).exceeded_by(1))
        self.assertFalse(self.quota(DEFAULT_QUOTA_BYTES - 2, 0).exceeded_by(1))
        self.assertFalse(self.quota(1 << 60, -1).exceeded_by(1 << 40))

    def test_looks_now_and_then(self) -> None:
        """Far from the limit most requests are let through without a look at the size."""
        quota = self.quota(0, 1_000_000)
        for _ in range(1000):
            self.assertFalse(quota.exceeded_by(100))
            self.size += 100
        self.assertLess(self.looks, 5)

    def test_looks_again(self) -> None:
        """What was added without asking counts once the quota was told."""
        quota = self.quota(0, 1000)
        self.assertFalse(quota.exceeded_by(10))
        self.size = 999
        quota.look_again()
        self.assertTrue(quota.exceeded_by(10))

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 100)), max_size=60))
    def test_never_decides_otherwise_for_saving_a_look(
        self, requests: list[tuple[int, int]]
    ) -> None:
        """As long as requests add no more than they cost, each is judged as by a look."""
        quota = self.quota(0, 1000)
        for cost, share in requests:
            expected = self.size + cost >= 1000
            self.assertEqual(quota.exceeded_by(cost), expected)
            if not expected:
                self.size += cost * share // 100
