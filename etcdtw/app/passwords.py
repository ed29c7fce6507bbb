"""Hashing passwords, in the form that etcd keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from etcdtw.storage.interfaces import IWorker

BCRYPT_COST = 10


def hash_password(password: bytes) -> bytes:
    """A bcrypt hash with a salt of its own."""
    import bcrypt  # only a log of etcd 3.4 has passwords to hash

    return bcrypt.hashpw(password, bcrypt.gensalt(BCRYPT_COST, b"2a"))


def check_password(password: bytes, hashed: bytes) -> bool:
    """Whether a password is the one of a hash; it takes as long as hashing."""
    import bcrypt

    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False  # what is stored is no hash


class WorkedPasswords:
    """Passwords of the v2 API, hashed and checked on a worker."""

    def __init__(self, worker: IWorker) -> None:
        self._worker = worker

    def hash(self, password: str) -> Deferred[str]:
        return self._run(lambda: hash_password(password.encode()).decode())

    def check(self, password: str, hashed: str) -> Deferred[bool]:
        return self._run(lambda: check_password(password.encode(), hashed.encode()))

    def _run(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._worker.run(work, done.callback, done.errback)
        return done
