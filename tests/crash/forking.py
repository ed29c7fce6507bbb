"""Children of a test process, to be killed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from twisted.logger import globalLogPublisher


def in_child(live: Callable[[], object]) -> int:
    """Run it in a copy of this process; the copy's id.

    The copy does not log: a worker of ``trial`` sends its log to the one who runs it, who would
    answer the worker for what the copy has sent.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for observer in list(globalLogPublisher._observers):
            globalLogPublisher.removeObserver(observer)
        live()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)
