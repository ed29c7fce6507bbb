"""``/debug/…``: looks into the running process, as far as Go's pages of those names have a
counterpart. Profiles need ``--enable-pprof``."""

from __future__ import annotations

import gc
import json
import resource
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType

from twisted.internet.interfaces import IReactorTime

from etcdtw.api.http.requests import HttpRequest, Resource, answer
from etcdtw.api.http.resources import Page
from etcdtw.rpc import Router

PROFILE_SECONDS = 30.0
PROFILE_SECONDS_MAX = 300.0
SAMPLE_SECONDS = 0.005
TYPES_SHOWN = 50
_TEXT = b"text/plain; charset=utf-8"


class Vars(Page):
    """``/debug/vars``: the command line, and what the process uses."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def show(self, request: HttpRequest) -> bytes:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        body = json.dumps(
            {
                "cmdline": self._words,
                "maxrss_bytes": usage.ru_maxrss * 1024,
                "user_seconds": usage.ru_utime,
                "system_seconds": usage.ru_stime,
                "gc": gc.get_stats(),
                "threads": [each.name for each in threading.enumerate()],
            }
        )
        return answer(request, 200, body.encode() + b"\n", b"application/json; charset=utf-8")


class Requests(Page):
    """``/debug/requests``: calls by method, with those that are under way."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def show(self, request: HttpRequest) -> bytes:
        lines = [f"{'under way':>10} {'ended':>12} {'failed':>10}  method"]
        for method in sorted(self._router.methods(), key=lambda each: each.path):
            ended = sum(method.handled)
            if method.started:
                lines.append(
                    f"{method.started - ended:>10} {ended:>12} "
                    f"{ended - method.handled[0]:>10}  {method.path}"
                )
        return answer(request, 200, "\n".join((*lines, "")).encode(), _TEXT)


class Stacks(Page):
    """``/debug/pprof/goroutine``: where every thread is."""

    def show(self, request: HttpRequest) -> bytes:
        names = {each.ident: each.name for each in threading.enumerate()}
        parts = []
        for ident, frame in sys._current_frames().items():
            parts.append(f"thread {names.get(ident, ident)}\n")
            parts += traceback.format_stack(frame)
        return answer(request, 200, "".join(parts).encode(), _TEXT)


class Heap(Page):
    """``/debug/pprof/heap``: the types of which there are most objects under the collector."""

    def show(self, request: HttpRequest) -> bytes:
        counted = Counter(type(each).__qualname__ for each in gc.get_objects())
        lines = [f"{count:>10} {name}" for name, count in counted.most_common(TYPES_SHOWN)]
        return answer(request, 200, "\n".join((*lines, "")).encode(), _TEXT)


class Profile(Page):
    """``/debug/pprof/profile?seconds=30``: where the reactor's thread was, sampled 200 times a
    second; a line per stack with its count, as flame graph tools read it."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock

    def show(self, request: HttpRequest) -> bytes | None:
        text = request.args.get(b"seconds", [b""])[0]
        seconds = min(float(text) if text.isdigit() else PROFILE_SECONDS, PROFILE_SECONDS_MAX)
        sampler = Sampler(threading.get_ident())
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def done() -> None:
            sampler.stop()
            if not gone:
                request.write(answer(request, 200, sampler.folded().encode(), _TEXT))
                request.finish()

        sampler.start()
        self._clock.callLater(seconds, done)
        return None


class Sampler(threading.Thread):
    """Looks at one thread's stack now and then."""

    def __init__(self, ident: int) -> None:
        super().__init__(name="profile", daemon=True)
        self._watched = ident
        self._stacks: Counter[str] = Counter()
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            frame = sys._current_frames().get(self._watched)
            if frame is not None:
                self._stacks[_folded(frame)] += 1

    def stop(self) -> None:
        self._stopped.set()

    def folded(self) -> str:
        """One line per stack, outermost call first, and how often it was seen."""
        self.join(1.0)
        return "".join(f"{stack} {count}\n" for stack, count in self._stacks.most_common())


def _folded(frame: FrameType | None) -> str:
    names = []
    while frame is not None:
        code = frame.f_code
        module = frame.f_globals.get("__name__", "?")
        names.append(
            f"{module}.{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}"
        )
        frame = frame.f_back
    return ";".join(reversed(names))


class Cmdline(Page):
    """``/debug/pprof/cmdline``."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def show(self, request: HttpRequest) -> bytes:
        return answer(request, 200, "\0".join(self._words).encode(), _TEXT)


class Index(Page):
    """``/debug/pprof/``: what there is."""

    def __init__(self, pages: Callable[[], list[bytes]]) -> None:
        self._pages = pages

    def show(self, request: HttpRequest) -> bytes:
        return answer(request, 200, b"\n".join((*self._pages(), b"")), _TEXT)


def debug_pages(
    router: Router, clock: IReactorTime, profiles: bool, words: Sequence[str]
) -> dict[bytes, Resource]:
    """The pages by path; those of pprof only if they are wanted. ``words`` is the command line as
    it may be told."""
    pages: dict[bytes, Resource] = {
        b"/debug/vars": Vars(words),
        b"/debug/requests": Requests(router),
    }
    if profiles:
        profiled: dict[bytes, Resource] = {
            b"/debug/pprof/goroutine": Stacks(),
            b"/debug/pprof/heap": Heap(),
            b"/debug/pprof/profile": Profile(clock),
            b"/debug/pprof/cmdline": Cmdline(words),
        }
        pages |= profiled
        pages[b"/debug/pprof/"] = Index(lambda: sorted(profiled))
    return pages
