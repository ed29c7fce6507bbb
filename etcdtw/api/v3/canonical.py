"""Client bytes that may be embedded in a log entry as they are, and those that may not.

Decoders disagree about what is not canonical: upb keeps a known field of the wrong wire type as an
unknown one and would write it again, and real members die of such an entry at every replay. So
bytes are embedded only if decoding them, dropping unknown fields and encoding again gives the same
bytes; otherwise that re-encoding takes their place.
"""

from __future__ import annotations

from typing import NoReturn, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from etcdtw.errors import Code, StatusError, TooManyOps

M = TypeVar("M", bound=Message)

_TOO_DEEP = "MaxDepth"  # in what upb says


def canonical(request_class: type[M], raw: bytes) -> tuple[M, bytes]:
    """The request, and the bytes to put into the log for it.

    Raises Internal for bytes that are no such message, and for a known field with a wrong wire
    type; TooManyOps for messages too deep inside each other, which transactions alone can be.
    """
    try:
        request = request_class.FromString(raw)
    except DecodeError as error:
        if _TOO_DEEP in str(error):
            raise TooManyOps from None
        _refuse("unexpected EOF")
    request.DiscardUnknownFields()
    encoded = request.SerializeToString(deterministic=True)
    if encoded == raw:
        return request, raw
    _check_wire_types(request_class.FromString(raw))
    return request, encoded


def single_key_range(raw: bytes) -> tuple[bytes, bool] | None:
    """Key and serializable flag of a RangeRequest that has nothing else, without decoding it;
    None for any other."""
    length = len(raw)
    if 2 < length < 130 and raw[0] == 0x0A:
        if raw[1] == length - 2:
            return raw[2:], False
        if length > 4 and raw[1] == length - 4 and raw[-2:] == b"\x38\x01":
            return raw[2:-2], True
    return None


def _check_wire_types(message: Message) -> None:
    fields = message.DESCRIPTOR.fields_by_number
    unknown_fields = UnknownFieldSet(message)
    for index in range(len(unknown_fields)):
        unknown = unknown_fields[index]
        known = fields.get(unknown.field_number)
        if known is not None:
            _refuse(f"proto: wrong wireType = {unknown.wire_type} for field {_go_name(known.name)}")
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for nested in value if field.is_repeated else (value,):
                _check_wire_types(nested)


def _refuse(reason: str) -> NoReturn:
    """In grpc-go's words."""
    raise StatusError(Code.INTERNAL, f"grpc: error unmarshalling request: {reason}")


def _go_name(field: str) -> str:
    """``range_end`` as Go's generated code calls it: ``RangeEnd``."""
    return "".join(part[:1].upper() + part[1:] for part in field.split("_"))
