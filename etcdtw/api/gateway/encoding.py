"""Protobuf to JSON as etcd's gateway writes it: fields by their own names in the order of their
numbers, what is zero left out, 64-bit numbers as strings, enums as names, bytes as base64."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from etcdtw.v2store.gojson import quote

Writer = Callable[[Any], str]


def encode_json(message: Message) -> str:
    """The message as a JSON object."""
    return _encode(_writers(message.DESCRIPTOR), message)


Writers = dict[int, tuple[str, Writer]]


@cache
def _writers(descriptor: Descriptor) -> Writers:
    return {field.number: (f'"{field.name}":', _field_writer(field)) for field in descriptor.fields}


def _encode(writers: Writers, message: Message) -> str:
    parts = []
    for field, value in message.ListFields():
        name, write = writers[field.number]
        parts.append(name + write(value))
    return "{" + ",".join(parts) + "}"


def _field_writer(field: FieldDescriptor) -> Writer:
    write = _value_writer(field)
    if not field.is_repeated:
        return write
    return lambda values: "[" + ",".join(map(write, values)) + "]"


def _value_writer(field: FieldDescriptor) -> Writer:
    descriptor = field.message_type
    if descriptor is not None:
        return lambda message: _encode(_writers(descriptor), message)
    if field.enum_type is not None:
        return _enum_writer(field.enum_type)
    return _SCALARS[field.type]


def _enum_writer(enum: EnumDescriptor) -> Writer:
    names = {number: f'"{value.name}"' for number, value in enum.values_by_number.items()}
    return lambda number: names.get(number) or str(number)


def _wide(number: int) -> str:
    return f'"{number}"'


_SCALARS: dict[int, Writer] = {
    FieldDescriptor.TYPE_BOOL: lambda value: "true" if value else "false",
    FieldDescriptor.TYPE_BYTES: lambda value: f'"{b2a_base64(value, newline=False).decode()}"',
    FieldDescriptor.TYPE_STRING: quote,
    FieldDescriptor.TYPE_INT64: _wide,
    FieldDescriptor.TYPE_UINT64: _wide,
    FieldDescriptor.TYPE_INT32: str,
    FieldDescriptor.TYPE_UINT32: str,
}
