"""HPACK's Huffman code (RFC 7541 section 5.2), decoded a byte at a time.

A state is a node of the code tree. The step from a state over one input byte (text that comes out
and the next state) is worked out when it is first met and remembered: text of real headers uses a
few hundred of the 65,536 possible steps, so neither start nor memory pays for the rest.
"""

from __future__ import annotations

# Bits of each symbol's code, from 0 to 255 and the end of the string (RFC 7541 appendix B).
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c"
    "060a0a0c0d06080b0a0a080b080606060505050606060606060607080f060c0a"
    "0d06070707070707070707070707070707070707070707070807080d130d0e06"
    "0f05060506050606060507070606060506070605050607070707070f0b0e0d1c"
    "1416141416161617161717171717181718181617181717171715161716171718"
    "1615141616171715171616181516171715151615171617171416161617161617"
    "1a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a1c1b1b1b"
    "14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a"
    "1e"
)
_END_OF_STRING = 256
_BAD = -1

# Children of node n are _CHILDREN[2 * n] and [2 * n + 1]; symbol s is written as -2 - s, a missing
# child as -1. The root is node 0.
_CHILDREN: list[int] = [_BAD, _BAD]
# States of the nodes on the path of ones from the root, at most seven deep: a string may end there.
_ENDS: set[int] = {0}
_FAULT = -1 << 8


def _grow() -> None:
    """Build the tree. The code is canonical: codes of one length are consecutive numbers in the
    order of their symbols, and follow those of the lengths before."""
    code = length = 0
    for symbol in sorted(range(len(_LENGTHS)), key=lambda each: (_LENGTHS[each], each)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        node = 0
        for shift in range(length - 1, 0, -1):
            slot = 2 * node + (code >> shift & 1)
            if _CHILDREN[slot] == _BAD:
                _CHILDREN[slot] = len(_CHILDREN) // 2
                _CHILDREN.extend((_BAD, _BAD))
            node = _CHILDREN[slot]
        _CHILDREN[2 * node + (code & 1)] = -2 - symbol
        code += 1
    node = 0
    for _ in range(7):
        node = _CHILDREN[2 * node + 1]
        _ENDS.add(node << 8)


_grow()


class _Steps(dict[int, tuple[str, int]]):
    """(state << 8 | byte) -> (text, next state << 8). A fault leads to a state that none leaves."""

    def __missing__(self, key: int) -> tuple[str, int]:
        if key < 0:
            return "", _FAULT
        node = key >> 8
        text = ""
        for shift in range(7, -1, -1):
            child = _CHILDREN[2 * node + (key >> shift & 1)]
            if child >= 0:
                node = child
                continue
            symbol = -2 - child
            if child == _BAD or symbol == _END_OF_STRING:
                node = _BAD
                break
            text += chr(symbol)
            node = 0
        result = self[key] = (text, node << 8)
        return result


_STEPS = _Steps()


def decode(data: bytes) -> str:
    """The text of a Huffman-coded string, one character per octet (Latin-1).

    Raises ValueError for a coded end-of-string and for padding that is not all ones or longer
    than seven bits.
    """
    steps = _STEPS
    state = 0
    text = ""
    for byte in data:
        piece, state = steps[state | byte]
        text += piece
    if state not in _ENDS:
        if state == _FAULT:
            raise ValueError("end-of-string symbol inside a Huffman-coded string")
        raise ValueError("Huffman-coded string ends with wrong padding")
    return text
