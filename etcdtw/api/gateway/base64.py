"""Base64 as Go's standard encoding takes it."""

from __future__ import annotations

from binascii import Error, a2b_base64

_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def decode_base64(text: str) -> bytes:
    """Padded, line breaks ignored. ValueError names the first byte at fault, as Go does."""
    try:
        return a2b_base64(text, strict_mode=True)
    except (Error, ValueError):
        pass  # of what is refused here, Go takes line breaks
    _check(text)
    return a2b_base64(text.replace("\r", "").replace("\n", ""))


def _check(text: str) -> None:
    """Raise ValueError unless Go takes this."""
    at = 0
    in_group = 0
    size = len(text.encode("utf-8", "replace"))
    for at, char in enumerate(text):
        if char in "\r\n":
            continue
        if char in _ALPHABET:
            in_group = (in_group + 1) % 4
            continue
        if char != "=" or in_group < 2:
            raise _corrupt(at)
        _check_padding(text, at, in_group, size)
        return
    if in_group:
        raise _corrupt(size - in_group)


def _check_padding(text: str, at: int, in_group: int, size: int) -> None:
    """``at`` is the first padding character, behind two or three of a group."""

    def skip(position: int) -> int:
        while text[position : position + 1] and text[position] in "\r\n":
            position += 1
        return position

    position = skip(at + 1)
    if in_group == 2:
        if position == len(text):
            raise _corrupt(size)
        if text[position] != "=":
            raise _corrupt(position - 1)
        position = skip(position + 1)
    if position < len(text):
        raise _corrupt(position)


def _corrupt(at: int) -> ValueError:
    return ValueError(f"illegal base64 data at input byte {at}")
