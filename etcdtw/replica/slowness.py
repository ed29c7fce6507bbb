"""Why a request took long, in one line of the log."""

from __future__ import annotations

from twisted.logger import Logger

SLOW_SECONDS = 0.3
"""etcd's threshold for requests on their way through the log."""
NOTABLE_SECONDS = 0.01
"""What took less cannot be why a request was slow."""
LINE_SECONDS = 1.0
"""At most one line in so long; it tells how many requests it stands for."""

log = Logger(namespace="etcdtw.replica")


class Slowness:
    """Collects what the requests of these turns waited for.

    ``apply_seconds`` is ``--experimental-warning-apply-duration``: applies beyond it are told by
    themselves, as etcd tells them.
    """

    def __init__(self, apply_seconds: float = 0.1) -> None:
        self.slow_applies = 0
        self._apply_seconds = apply_seconds
        self.notable_apply_seconds = min(apply_seconds, NOTABLE_SECONDS)
        """``applied`` need not know of what took less."""
        self.waits: dict[str, float] = {}
        """What requests under way had to wait for so far, if it was notable."""
        self._next_line = 0.0
        self._untold = 0

    def waited(self, what: str, seconds: float) -> None:
        """Something that all requests under way had to wait for."""
        if seconds > self.waits.get(what, NOTABLE_SECONDS):
            self.waits[what] = seconds

    def applied(self, entries: int, seconds: float) -> None:
        """So many entries were applied in one go, which took longer than is notable."""
        self.waited("apply", seconds)
        if seconds > self._apply_seconds:
            self.slow_applies += 1
            log.warn(
                "apply request took too long",
                took=_text(seconds),
                expected_duration=_text(self._apply_seconds),
                entries=entries,
            )

    def answered(
        self,
        now: float,
        oldest_seconds: float,
        requests: int,
        sync_seconds: float = 0.0,
        keyspace_seconds: float = 0.0,
    ) -> None:
        """Requests were answered, the oldest of which had waited so long; the last two are what
        all of them waited for the disk."""
        waits, self.waits = self.waits, {}
        if oldest_seconds < SLOW_SECONDS:
            return
        waits |= {"sync": sync_seconds, "keyspace": keyspace_seconds}
        self._untold += requests
        if now < self._next_line:
            return
        self._next_line = now + LINE_SECONDS
        untold, self._untold = self._untold, 0
        longest = max(waits, key=lambda each: waits[each], default="")
        reason = longest if longest and waits[longest] > oldest_seconds / 4 else "quorum"
        log.warn(
            "slow requests: waited for {waited_for}",
            took=_text(oldest_seconds),
            requests=untold,
            waited_for=_WORDS[reason],
            **{name: _text(seconds) for name, seconds in sorted(waits.items()) if seconds},
        )


_WORDS = {
    "sync": "the log's disk",
    "apply": "the apply of entries",
    "reactor": "other work of this process",
    "keyspace": "the keyspace's disk, which was behind",
    "quorum": "other members, or a leader",
}


def _text(seconds: float) -> str:
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.3f}s"
