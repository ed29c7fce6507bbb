"""Answers that take many turns to work out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from etcdtw.errors import Code, EtcdError, StatusError
from etcdtw.replica.slices import Slices
from etcdtw.rpc import UnaryCall


class Job(Protocol):
    def step(self) -> bool: ...

    def close(self) -> None:
        """Let go of what it holds; its next step is its last."""


def work_out(slices: Slices, call: UnaryCall, job: Job, answer: Callable[[], bytes]) -> None:
    """Reply with ``answer`` once the job is done, if somebody is still there then."""

    def done() -> None:
        if call.done:
            return
        try:
            call.reply(answer())
        except EtcdError as refused:
            call.fail(refused)

    def failed(error: Exception) -> None:
        job.close()
        call.fail(StatusError(Code.UNKNOWN, str(error)))

    call.on_cancel = job.close
    slices.run(job.step, done, failed)
