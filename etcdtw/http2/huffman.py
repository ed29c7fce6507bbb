"""HPACK's Huffman code (RFC 7541 section 5.2), decoded a byte at a time.

A state is a node of the code tree. The step from a state over one input byte (text that comes out
and the next state) is worked out when it is first met and remembered: text of real headers uses a
few hundred of the 65,536 possible steps, so neither start nor memory pays for the rest.
"""

from __future__ import annotations

_END_OF_STRING = 256
_BAD = -1

# Children of node n are _CHILDREN[2 * n] and [2 * n + 1]; symbol s is written as -2 - s, a missing
# child as -1. The root is node 0.
_CHILDREN: list[int] = [_BAD, _BAD]
# Nodes on the path of ones from the root, at most seven deep: a string may end there.
_ENDS: set[int] = {0}
# (state << 8 | byte) -> (text, next state), the next state being negative for a fault.
_STEPS: dict[int, tuple[str, int]] = {}


def _grow() -> None:
    """Build the tree, when the first coded string comes: many clients never send one, and the
    code's table brings most of a megabyte with it."""
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        node = 0
        for shift in range(length - 1, 0, -1):
            slot = 2 * node + (code >> shift & 1)
            if _CHILDREN[slot] == _BAD:
                _CHILDREN[slot] = len(_CHILDREN) // 2
                _CHILDREN.extend((_BAD, _BAD))
            node = _CHILDREN[slot]
        _CHILDREN[2 * node + (code & 1)] = -2 - symbol
    node = 0
    for _ in range(7):
        node = _CHILDREN[2 * node + 1]
        _ENDS.add(node)


def _step(key: int) -> tuple[str, int]:
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
    result = _STEPS[key] = (text, node)
    return result


def decode(data: bytes) -> str:
    """The text of a Huffman-coded string, one character per octet (Latin-1).

    Raises ValueError for a coded end-of-string and for padding that is not all ones or longer
    than seven bits.
    """
    if len(_ENDS) == 1:
        _grow()
    steps = _STEPS
    state = 0
    text = ""
    for byte in data:
        key = state << 8 | byte
        step = steps.get(key)
        if step is None:
            step = _step(key)
        piece, state = step
        if state < 0:
            raise ValueError("end-of-string symbol inside a Huffman-coded string")
        text += piece
    if state not in _ENDS:
        raise ValueError("Huffman-coded string ends with wrong padding")
    return text
