"""Inputs made from good ones by chance: the fuzzer for where atheris is not installed."""

from __future__ import annotations

from random import Random

_INTERESTING = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\x7f",
    b"\xff\xff\xff\xff\x0f",
    b'"',
    b"{",
    b"[",
    b"\r\n",
)


def mutated(dice: Random, corpus: list[bytes]) -> bytes:
    """A new input."""
    data = bytearray(dice.choice(corpus))
    for _ in range(dice.randint(1, 6)):
        kind = dice.randrange(7)
        at = dice.randrange(len(data) + 1)
        if kind == 0 and data:
            data[at - 1] = dice.randrange(256)
        elif kind == 1 and data:
            data[at - 1] ^= 1 << dice.randrange(8)
        elif kind == 2:
            data[at:at] = dice.choice(_INTERESTING)
        elif kind == 3:
            del data[at : at + dice.randint(1, 8)]
        elif kind == 4:
            data[at:at] = data[at : at + dice.randint(1, 32)]
        elif kind == 5:
            other = dice.choice(corpus)
            data[at:] = other[dice.randrange(len(other) + 1) :]
        else:
            data[at:at] = dice.randbytes(dice.randint(1, 8))
    return bytes(data)
