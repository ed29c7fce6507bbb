"""Who owns a token: whoever has the secret that was made with it, of which only a hash is kept."""

from __future__ import annotations

import hmac
from hashlib import sha256

SECRET_BYTES = 24
OWNER_HEADER = b"x-etcdtw-owner"
"""Of the answer that has the new URL."""
_SCHEME = "bearer "


def hash_of(secret: str) -> str:
    """In hex. A fast one is enough: there are too many secrets to try."""
    return sha256(secret.encode()).hexdigest()


def is_owner(secret: str, kept_hash: str) -> bool:
    """Takes the same time whatever the secret is."""
    return hmac.compare_digest(hash_of(secret).encode(), kept_hash.encode())


def secret_in(authorization: bytes | None) -> str:
    """What an ``Authorization: Bearer`` header says; empty if there is none."""
    text = (authorization or b"").decode("latin-1").strip()
    return text[len(_SCHEME) :].strip() if text.lower().startswith(_SCHEME) else ""
