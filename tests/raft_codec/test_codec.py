"""Raft values and their bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb import raft_pb2
from etcdtw.raft import codec
from etcdtw.raft.messages import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
)
from etcdtw.varint import varint

PEER_STREAMS = Path(__file__).parent / "vectors"
WAL_VECTORS = Path(__file__).parent.parent / "storage" / "vectors"

U64 = st.integers(0, 2**64 - 1)
DATA = st.none() | st.binary(max_size=40)
IDS = st.lists(U64, max_size=3).map(tuple)
ENTRIES = st.builds(Entry, term=U64, index=U64, type=st.sampled_from(EntryType), data=DATA)
HARD_STATES = st.builds(HardState, term=U64, vote=U64, commit=U64)
CONF_STATES = st.builds(
    ConfState,
    voters=IDS,
    learners=IDS,
    voters_outgoing=IDS,
    learners_next=IDS,
    auto_leave=st.booleans(),
)
CONF_CHANGES = st.builds(
    ConfChange, id=U64, type=st.sampled_from(ConfChangeType), node_id=U64, context=DATA
)
SNAPSHOTS = st.builds(Snapshot, index=U64, term=U64, conf_state=CONF_STATES, data=DATA)
MESSAGES = st.builds(
    Message,
    type=st.sampled_from(MessageType),
    to=U64,
    from_=U64,
    term=U64,
    log_term=U64,
    index=U64,
    entries=st.lists(ENTRIES, max_size=3).map(tuple),
    commit=U64,
    snapshot=st.none() | SNAPSHOTS.filter(lambda each: each != Snapshot(0, 0, ConfState(), None)),
    reject=st.booleans(),
    reject_hint=U64,
    context=DATA,
)
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


class KnownBytesTests(SynchronousTestCase):
    """Bytes that etcd 3.5 writes for hand-picked values."""

    def test_entry(self) -> None:
        """Every number of an entry is written, data only when it is there."""
        zero = Entry(term=0, index=0, type=EntryType.NORMAL, data=None)
        one = Entry(term=1, index=1, type=EntryType.NORMAL, data=b"abc")
        empty = Entry(term=1, index=1, type=EntryType.NORMAL, data=b"")
        self.assertEqual(codec.encode_entry(zero), unhex("08 00 10 00 18 00"))
        self.assertEqual(codec.encode_entry(one), unhex("08 00 10 01 18 01 22 03 61 62 63"))
        self.assertEqual(codec.encode_entry(empty), unhex("08 00 10 01 18 01 22 00"))

    def test_hard_state(self) -> None:
        """Every number of a hard state is written."""
        self.assertEqual(codec.encode_hard_state(HardState()), unhex("08 00 10 00 18 00"))
        state = HardState(term=2, vote=3, commit=4)
        self.assertEqual(codec.encode_hard_state(state), unhex("08 02 10 03 18 04"))

    def test_conf_state(self) -> None:
        """Members are not packed, auto_leave is always written."""
        self.assertEqual(codec.encode_conf_state(ConfState()), unhex("28 00"))
        state = ConfState(voters=(1, 2), learners=(3,))
        self.assertEqual(codec.encode_conf_state(state), unhex("08 01 08 02 10 03 28 00"))

    def test_conf_change(self) -> None:
        """Every number of a conf change is written."""
        zero = ConfChange(id=0, type=ConfChangeType.ADD_NODE, node_id=0, context=None)
        self.assertEqual(codec.encode_conf_change(zero), unhex("08 00 10 00 18 00"))

    def test_snapshot(self) -> None:
        """A snapshot's metadata is written even when all of it is zero."""
        zero = Snapshot(index=0, term=0, conf_state=ConfState(), data=None)
        self.assertEqual(codec.encode_snapshot(zero), unhex("12 08 0a 02 28 00 10 00 18 00"))

    def test_link_heartbeat(self) -> None:
        """The zero heartbeat that keeps a peer stream alive is etcd's 31 bytes."""
        expected = unhex(
            "08 08 10 00 18 00 20 00 28 00 30 00 40 00 4a 0a 12 08 0a 02 28 00 10 00 18 00 50 00 "
            "58 00"
        )
        message = Message(type=MessageType.HEARTBEAT)
        self.assertEqual(codec.encode_message(message), expected)
        self.assertEqual(codec.decode_message(expected), message)

    def test_message_of_etcd_3_6(self) -> None:
        """A message of 3.6, without a snapshot and with a field more, is understood."""
        newer = unhex("08 08 10 00 18 00 20 00 28 00 30 00 40 00 50 00 58 00 68 00")
        self.assertEqual(codec.decode_message(newer), Message(type=MessageType.HEARTBEAT))

    def test_varints(self) -> None:
        """Numbers around every change of length take their shortest form."""
        for bits in range(64):
            for number in {(1 << bits) - 1, 1 << bits, (1 << bits) + 1}:
                encoded = varint(number)
                self.assertEqual(len(encoded), max(1, (number.bit_length() + 6) // 7))
                self.assertEqual(codec.decode_varint(encoded, 0), (number, len(encoded)))


class RecordedBytesTests(SynchronousTestCase):
    """Bytes recorded from real members."""

    def test_every_message_of_the_peer_streams(self) -> None:
        """Each recorded raft message has the recorded fields and the same bytes."""
        messages = [each for stream in peer_streams() for each in stream["messages"]]
        self.assertGreater(len(messages), 300)
        for recorded in messages:
            data = bytes.fromhex(recorded["hex"])
            message = codec.decode_message(data)
            self.assertEqual(
                (message.type, message.to, message.from_, message.term),
                (
                    message_type(recorded["type"]),
                    int(recorded["to"], 16),
                    int(recorded["from"], 16),
                    recorded["term"],
                ),
            )
            for name, value in (
                ("logTerm", message.log_term),
                ("index", message.index),
                ("commit", message.commit),
                ("rejectHint", message.reject_hint),
            ):
                self.assertEqual(value, recorded.get(name, 0), recorded)
            self.assertEqual(
                [
                    (each.type, each.term, each.index, len(each.data or b""))
                    for each in message.entries
                ],
                [
                    (each["type"], each["term"], each["index"], each["len"])
                    for each in recorded.get("entries", ())
                ],
            )
            self.assertEqual(codec.encode_message(message), data)

    def test_every_entry_of_the_peer_streams(self) -> None:
        """Each entry recorded in an append stream is decoded and encoded to the same bytes."""
        entries = [bytes.fromhex(each) for stream in peer_streams() for each in stream["entries"]]
        self.assertGreater(len(entries), 100)
        for data in entries:
            self.assertEqual(codec.encode_entry(codec.decode_entry(data)), data)

    def test_every_entry_of_the_logs(self) -> None:
        """Each recorded entry is decoded, field by field, and encoded to the same bytes."""
        names = {
            "EntryNormal": EntryType.NORMAL,
            "EntryConfChange": EntryType.CONF_CHANGE,
            "EntryConfChangeV2": EntryType.CONF_CHANGE_V2,
        }
        count = 0
        for record in recorded_entries():
            data = bytes.fromhex(record["entry_hex"])
            entry = codec.decode_entry(data)
            self.assertEqual(
                (entry.term, entry.index, entry.type),
                (
                    int(record["value"]["Term"]),
                    int(record["value"]["Index"]),
                    names[record["value"].get("Type", "EntryNormal")],
                ),
            )
            self.assertEqual(codec.encode_entry(entry), data)
            self.assertEqual(codec.encode_entries([entry, entry]), [data, data])
            count += 1
        self.assertGreater(count, 500)

    def test_every_conf_change_of_the_logs(self) -> None:
        """Each recorded membership change has the recorded fields and the same bytes."""
        count = 0
        for record in recorded_entries():
            entry = codec.decode_entry(bytes.fromhex(record["entry_hex"]))
            if entry.type != EntryType.CONF_CHANGE:
                continue
            recorded = record["data"]["ConfChange"]
            assert entry.data is not None
            change = codec.decode_conf_change(entry.data)
            self.assertEqual(change.node_id, int(recorded["node_id"]))
            self.assertEqual(change.context, recorded["context_raw"].encode())
            self.assertEqual(codec.encode_conf_change(change), entry.data)
            count += 1
        self.assertGreater(count, 10)


def peer_streams() -> Iterator[dict[str, Any]]:
    for path in sorted(PEER_STREAMS.glob("peer-streams-*.json")):
        yield json.loads(path.read_text())


def message_type(name: str) -> MessageType:
    """``MsgAppResp`` is ``APP_RESP``."""
    return MessageType[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removeprefix("Msg")).upper()]


def recorded_entries() -> Iterator[dict[str, Any]]:
    for path in sorted(WAL_VECTORS.glob("wal-*/*.decoded.json")):
        for content in json.loads(path.read_text())["wal"].values():
            yield from (each for each in content.get("records", ()) if "entry_hex" in each)


class RoundTripTests(SynchronousTestCase):
    """What is encoded is decoded to the same value, and protobuf's own reader agrees."""

    @PROPERTY
    @given(ENTRIES)
    def test_entry(self, entry: Entry) -> None:
        """Entries come back as they were, alone and in a batch."""
        data = codec.encode_entry(entry)
        self.assertEqual(codec.decode_entry(data), entry)
        self.assertEqual(codec.encode_entries([entry]), [data])
        foreign = raft_pb2.Entry.FromString(data)
        self.assertEqual(
            (foreign.Term, foreign.Index, foreign.Type, foreign.Data),
            (entry.term, entry.index, entry.type, entry.data or b""),
        )
        self.assertEqual(foreign.SerializeToString(deterministic=True), data)

    @PROPERTY
    @given(HARD_STATES)
    def test_hard_state(self, state: HardState) -> None:
        """Hard states come back as they were."""
        data = codec.encode_hard_state(state)
        self.assertEqual(codec.decode_hard_state(data), state)
        self.assertEqual(raft_pb2.HardState.FromString(data).SerializeToString(), data)

    @PROPERTY
    @given(CONF_STATES)
    def test_conf_state(self, state: ConfState) -> None:
        """Configurations come back as they were, from packed numbers too."""
        data = codec.encode_conf_state(state)
        self.assertEqual(codec.decode_conf_state(data), state)
        self.assertEqual(raft_pb2.ConfState.FromString(data).SerializeToString(), data)
        numbers = b"".join(map(varint, state.voters))
        packed = b"\x0a" + varint(len(numbers)) + numbers
        self.assertEqual(codec.decode_conf_state(packed).voters, state.voters)

    @PROPERTY
    @given(CONF_CHANGES)
    def test_conf_change(self, change: ConfChange) -> None:
        """Membership changes come back as they were."""
        data = codec.encode_conf_change(change)
        self.assertEqual(codec.decode_conf_change(data), change)
        self.assertEqual(raft_pb2.ConfChange.FromString(data).SerializeToString(), data)

    @PROPERTY
    @given(MESSAGES)
    def test_message(self, message: Message) -> None:
        """Messages come back as they were."""
        data = codec.encode_message(message)
        self.assertEqual(codec.decode_message(data), message)
        self.assertEqual(raft_pb2.Message.FromString(data).SerializeToString(), data)


DECODERS = (
    codec.decode_entry,
    codec.decode_hard_state,
    codec.decode_conf_state,
    codec.decode_conf_change,
    codec.decode_snapshot,
    codec.decode_message,
)


class StrictnessTests(SynchronousTestCase):
    """Bad bytes are refused with ValueError, never with anything else."""

    def test_wrong_wire_type(self) -> None:
        """A known field of another wire type is refused."""
        for decode in DECODERS:
            for field in (1, 2, 3, 4):
                for wrong in (1, 5):
                    body = bytes(8 if wrong == 1 else 4)
                    if (decode, field) in ((codec.decode_snapshot, 3), (codec.decode_snapshot, 4)):
                        continue  # a Snapshot has two fields
                    if (decode, field) == (codec.decode_hard_state, 4):
                        continue  # a HardState has three
                    self.assertRaises(ValueError, decode, bytes((field << 3 | wrong,)) + body)

    def test_bytes_where_a_number_belongs(self) -> None:
        """An entry whose index comes as bytes is refused, and data that comes as a number."""
        self.assertRaises(ValueError, codec.decode_entry, unhex("08 00 10 01 1a 01 01"))
        self.assertRaises(ValueError, codec.decode_entry, unhex("08 00 10 01 18 01 20 03"))

    def test_every_truncation(self) -> None:
        """No proper prefix that ends inside a field is accepted."""
        data = codec.encode_entry(Entry(term=300, index=70000, type=EntryType.NORMAL, data=b"abc"))
        whole_fields = {0, 2, 5, 9}
        for length in set(range(len(data))) - whole_fields:
            self.assertRaises(ValueError, codec.decode_entry, data[:length])

    def test_overlong_numbers(self) -> None:
        """A number of more than 64 bits is refused."""
        self.assertRaises(ValueError, codec.decode_hard_state, b"\x08" + b"\xff" * 9 + b"\x02")
        self.assertRaises(ValueError, codec.decode_hard_state, b"\x08" + b"\xff" * 10 + b"\x01")

    def test_unknown_values_of_enumerations(self) -> None:
        """An entry, change or message of a kind that does not exist is refused."""
        self.assertRaises(ValueError, codec.decode_entry, unhex("08 03 10 01 18 01"))
        self.assertRaises(ValueError, codec.decode_conf_change, unhex("10 04"))
        self.assertRaises(ValueError, codec.decode_message, unhex("08 7f"))

    def test_short_messages(self) -> None:
        """What is read in pieces that are known to come so is refused like any other."""
        message = Message(MessageType.APP_RESP, to=1 << 63, from_=2, term=3, index=300, commit=4)
        data = codec.encode_message(message)
        self.assertEqual(codec.decode_message(data), message)
        index = unhex("30 ac 02 40 04")
        self.assertEqual(data.count(index), 1)
        for number in (b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01"):
            for wrong in (b"\x30%b\x40\x04" % number, b"\x30\xac\x02\x40%b" % number):
                self.assertRaises(ValueError, codec.decode_message, data.replace(index, wrong))
            wrong_id = data.replace(varint(1 << 63), number)
            self.assertRaises(ValueError, codec.decode_message, wrong_id)
        self.assertRaises(ValueError, codec.decode_message, b"\x08\x7f" + data[2:])
        self.assertRaises(ValueError, codec.decode_message, data[:-1])
        self.assertEqual(
            codec.decode_message(data[: data.index(index) + 3]), message._replace(commit=0)
        )
        full = message._replace(entries=(Entry(3, 4, EntryType.NORMAL, b"a" * 200),), context=b"c")
        data = codec.encode_message(full)
        self.assertEqual(codec.decode_message(data), full)
        self.assertEqual(codec.decode_message(data + b"\x6a\x01\x00"), full)
        for cut in (b"\x62\x02c", b"\x62\x00c", b"\x62"):
            bad = data.removesuffix(b"\x62\x01c") + cut
            self.assertRaises(ValueError, codec.decode_message, bad)
        start = data.index(b"\x3a")
        for length in range(start + 1, start + 200):
            self.assertRaises(ValueError, codec.decode_message, data[:length])

    def test_fields_in_another_order(self) -> None:
        """Order does not matter, and unknown fields are skipped."""
        shuffled = unhex("18 05 7a 02 ff ff 22 01 61 10 04 08 01 81 01 00 00 00 00 00 00 00 00")
        expected = Entry(term=4, index=5, type=EntryType.CONF_CHANGE, data=b"a")
        self.assertEqual(codec.decode_entry(shuffled), expected)

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(st.binary(max_size=30), st.sampled_from(DECODERS))
    def test_any_bytes(self, data: bytes, decode: Any) -> None:
        """Arbitrary bytes give a value or ValueError."""
        try:
            decode(data)
        except ValueError:
            pass
