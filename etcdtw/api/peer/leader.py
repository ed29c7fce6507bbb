"""What only the leader can do: others ask it over its peer port."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etcdtw.peer.calling import Answered, HttpCaller

RETRY_SECONDS = 0.05


class LeaderCaller:
    """Calls the leader, at each of its peer URLs in turn, until one answers or time is up."""

    def __init__(
        self,
        caller: HttpCaller,
        leader_urls: Callable[[], Sequence[str]],
        timeout_seconds: float,
    ) -> None:
        """``leader_urls`` is empty while no other member is known to lead."""
        self._caller = caller
        self._leader_urls = leader_urls
        self._timeout = timeout_seconds

    def knows_leader(self) -> bool:
        """Whether another member is known to lead."""
        return bool(self._leader_urls())

    def post(
        self,
        path: str,
        body: bytes,
        seconds: float,
        accepted: Callable[[Answered], bool],
        timed_out: Callable[[], None],
    ) -> None:
        """POST it, waiting ``seconds`` for each answer, until ``accepted`` says True to one."""
        clock = self._caller.reactor
        until = clock.seconds() + self._timeout
        turn = 0

        def attempt() -> None:
            nonlocal turn
            urls = self._leader_urls()
            if clock.seconds() >= until:
                timed_out()
            elif not urls:
                again()
            else:
                url = urls[turn % len(urls)]
                turn += 1
                headers = {b"Content-Type": b"application/protobuf"} if body else {}
                call = self._caller.call(b"POST", url + path, headers, body, seconds)
                call.addCallbacks(got, lambda _: again())

        def got(answer: Answered) -> None:
            if not accepted(answer):
                again()

        def again() -> None:
            clock.callLater(RETRY_SECONDS, attempt)

        attempt()
