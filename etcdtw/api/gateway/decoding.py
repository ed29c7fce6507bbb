"""JSON to protobuf as etcd's gateway reads it (grpc-gateway 1.16 over Go's ``jsonpb``).

Fields are found by their own name or its lowerCamel form, 64-bit numbers may be strings, enums
are names or numbers, bytes are base64, null is absence, and unknown fields are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from json.decoder import JSONDecodeError, JSONDecoder
from operator import attrgetter
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from etcdtw.api.gateway.base64 import decode_base64
from etcdtw.api.gateway.gosyntax import after_top_level, syntax_error

M = TypeVar("M", bound=Message)
Setter = Callable[[Any, Any], None]
"""Puts a JSON value (not null) into a message."""

_BLANKS = " \t\r\n"
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_OWN_PACKAGE = "etcdtw."
_TOO_DEEP = "exceeded max depth"
_RAW_MESSAGES = "[]json.RawMessage"
_RAW_OBJECT = "map[string]json.RawMessage"


class BadJson(ValueError):
    """The body is not what the method takes; the text is Go's."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _refuse_constant(name: str) -> None:
    raise JSONDecodeError(name, name, 0)


_DECODER = JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)


def json_values(body: bytes) -> Iterator[object]:
    """The values that follow each other in a body. BadJson where one cannot be read."""
    text = body.decode("utf-8", "replace")
    at = 0
    while True:
        while text[at : at + 1] and text[at] in _BLANKS:
            at += 1
        if at == len(text):
            return
        try:
            value, end = _DECODER.raw_decode(text, at)
        except JSONDecodeError:
            # Replaced bytes have made the text longer than the body, unless there were none.
            rest = body[len(text[:at].encode()) :] if "\ufffd" not in text[:at] else body
            raise BadJson(syntax_error(rest)) from None
        except RecursionError:
            raise BadJson(_TOO_DEEP) from None
        yield value
        at = end


def decode_json(message_class: type[M], value: object) -> M:
    """The message that a JSON value stands for. BadJson if it is none."""
    message = message_class()
    if value is not None:
        try:
            _fill(_fields(message_class.DESCRIPTOR), message, value)
        except RecursionError:
            raise BadJson(_TOO_DEEP) from None
    return message


Fields = tuple[tuple[str, str, Setter], ...]


@cache
def _fields(descriptor: Descriptor) -> Fields:
    """Name, name in lowerCamel and setter of every field, in the order in which errors come."""
    ordered = sorted(descriptor.fields, key=attrgetter("number"))
    return tuple((field.name, field.json_name, _setter(field)) for field in ordered)


def _fill(fields: Fields, message: Any, value: object) -> None:
    if type(value) is not dict:
        raise _mismatch(value, _RAW_OBJECT)
    for name, camel, put in fields:
        item = value.get(camel if camel in value else name)
        if item is not None:
            put(message, item)


def _setter(field: FieldDescriptor) -> Setter:
    name = field.name
    if field.message_type is not None:
        return _message_setter(field)
    read = _reader(field)
    if not field.is_repeated:
        return lambda message, value: setattr(message, name, read(value))
    zero = read_zero(field)

    def extend(message: Any, value: object) -> None:
        if type(value) is not list:
            raise _mismatch(value, _RAW_MESSAGES)
        getattr(message, name).extend(zero if each is None else read(each) for each in value)

    return extend


def read_zero(field: FieldDescriptor) -> object:
    """What null stands for inside a list."""
    return field.enum_type.values[0].number if field.enum_type else _ZERO[field.cpp_type]


_ZERO: dict[int, object] = {
    FieldDescriptor.CPPTYPE_STRING: "",
    FieldDescriptor.CPPTYPE_INT64: 0,
    FieldDescriptor.CPPTYPE_UINT64: 0,
}


def _message_setter(field: FieldDescriptor) -> Setter:
    name = field.name
    descriptor = field.message_type
    if not field.is_repeated:

        def fill(message: Any, value: object) -> None:
            part = getattr(message, name)
            part.SetInParent()
            _fill(_fields(descriptor), part, value)

        return fill

    def extend(message: Any, value: object) -> None:
        if type(value) is not list:
            raise _mismatch(value, _RAW_MESSAGES)
        fields = _fields(descriptor)
        parts = getattr(message, name)
        for each in value:
            part = parts.add()
            if each is not None:
                _fill(fields, part, each)

    return extend


def _reader(field: FieldDescriptor) -> Callable[[Any], object]:
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
    kinds: dict[int, Callable[[Any], object]] = {
        FieldDescriptor.TYPE_BOOL: _read_bool,
        FieldDescriptor.TYPE_BYTES: _read_bytes,
        FieldDescriptor.TYPE_STRING: _read_string,
        FieldDescriptor.TYPE_INT64: _integer_reader("int64", -(1 << 63), (1 << 63) - 1),
        FieldDescriptor.TYPE_UINT64: _integer_reader("uint64", 0, (1 << 64) - 1),
        FieldDescriptor.TYPE_INT32: _integer_reader("int32", -(1 << 31), (1 << 31) - 1),
        FieldDescriptor.TYPE_UINT32: _integer_reader("uint32", 0, (1 << 32) - 1),
    }
    return kinds[field.type]


def _read_bool(value: object) -> bool:
    if type(value) is not bool:
        raise _mismatch(value, "bool")
    return value


def _read_string(value: object) -> str:
    if type(value) is not str:
        raise _mismatch(value, "string")
    if value.isascii():
        return value
    # Halves of surrogate pairs become the replacement character.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _read_bytes(value: object) -> bytes:
    if type(value) is str:
        try:
            return decode_base64(value)
        except ValueError as error:
            raise BadJson(str(error)) from None
    if type(value) is list:
        return bytes(0 if each is None else _read_octet(each) for each in value)
    raise _mismatch(value, "[]uint8")


def _read_octet(value: object) -> int:
    if type(value) is not _Number:
        raise _mismatch(value, "uint8")
    if _INTEGER.fullmatch(value) is None or not 0 <= int(value) <= 255:
        raise _unfit(value, "uint8")
    return int(value)


def _integer_reader(type_name: str, low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if type(value) is _Number:
            if _INTEGER.fullmatch(value) is not None and len(value) <= 20:
                number = int(value)
                if low <= number <= high:
                    return number
            raise _unfit(value, type_name)
        if type(value) is str:
            inner = _unquoted(value)
            return 0 if inner is None else read(inner)
        raise _mismatch(value, type_name)

    return read


def _unquoted(text: str) -> object:
    """The value written inside a string, which may be a number; never a string."""
    data = text.encode("utf-8", "replace")
    try:
        value, end = _DECODER.raw_decode(text.lstrip(_BLANKS))
    except (JSONDecodeError, RecursionError):
        raise BadJson(after_top_level(data)) from None
    if text.lstrip(_BLANKS)[end:].strip(_BLANKS):
        raise BadJson(after_top_level(data))
    if type(value) is str:
        raise BadJson(syntax_error(b"\\"))
    return value


def _enum_reader(enum: EnumDescriptor) -> Callable[[object], int]:
    numbers = {name: value.number for name, value in enum.values_by_name.items()}
    read_number = _integer_reader("protoreflect.EnumNumber", -(1 << 31), (1 << 31) - 1)

    def read(value: object) -> int:
        if type(value) is not str:
            return read_number(value)
        number = numbers.get(value)
        if number is None:
            name = enum.full_name.removeprefix(_OWN_PACKAGE)
            text = json.dumps(f'"{value}"', ensure_ascii=False)
            raise BadJson(f"unknown value {text} for enum {name}")
        return number

    return read


def _mismatch(value: object, type_name: str) -> BadJson:
    kind = {dict: "object", list: "array", str: "string", bool: "bool", _Number: "number"}
    return BadJson(f"json: cannot unmarshal {kind[type(value)]} into Go value of type {type_name}")


def _unfit(number: str, type_name: str) -> BadJson:
    return BadJson(f"json: cannot unmarshal number {number} into Go value of type {type_name}")
