"""For tests that several cases share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

if TYPE_CHECKING:
    Shared = SynchronousTestCase
else:
    Shared = object
    """Their base: a case only beside one, for trial is not to run them by themselves."""
