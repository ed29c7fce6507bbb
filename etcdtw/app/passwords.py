"""Hashing passwords, in the form that etcd keeps."""

from __future__ import annotations

BCRYPT_COST = 10


def hash_password(password: bytes) -> bytes:
    """A bcrypt hash with a salt of its own."""
    import bcrypt  # only a log of etcd 3.4 has passwords to hash

    return bcrypt.hashpw(password, bcrypt.gensalt(BCRYPT_COST, b"2a"))
