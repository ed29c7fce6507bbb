"""Streams between real members, read and written again."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer.codec import AppendReader, AppendWriter, MessageReader, MessageWriter
from etcdtw.raft.messages import Message, MessageType

VECTORS = Path(__file__).parent.parent / "vectors"
RUNS = ("3.4", "3.5", "mixed")
_REQUEST = re.compile(rb"GET /raft/stream/(msgapp|message)/([0-9a-f]+) HTTP/1.1\r\n")
_TO = re.compile(rb"X-Raft-To: ([0-9a-f]+)", re.IGNORECASE)


def recorded(run: str) -> Iterator[tuple[str, int, int, bytes]]:
    """Kind, dialler, dialled and the body of each stream of a run."""
    with tarfile.open(VECTORS / f"peer-{run}.raw.tar.xz") as archive:
        for name in archive.getnames():
            if not name.endswith(".c2s.bin"):
                continue
            request = _content(archive, name)
            found = _REQUEST.match(request)
            head, _, answer = _content(archive, name.replace("c2s", "s2c")).partition(b"\r\n\r\n")
            to = _TO.search(request)
            if found and to and b" 200 OK" in head:
                yield found[1].decode(), int(found[2], 16), int(to[1], 16), _unchunked(answer)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def _unchunked(data: bytes) -> bytes:
    """The body as far as it was recorded."""
    pieces = []
    while data:
        size, mark, rest = data.partition(b"\r\n")
        if not mark or not int(size, 16):
            break
        length = int(size, 16)
        pieces.append(rest[:length])
        data = rest[length + 2 :]
    return b"".join(pieces)


def in_pieces(dice: Random, data: bytes) -> Iterator[bytes]:
    while data:
        size = dice.choice((1, 3, 17, 400, 5000))
        yield data[:size]
        data = data[size:]


class RecordedTests(SynchronousTestCase):
    def test_appends(self) -> None:
        """Every stream of appends decodes, and encodes to the same bytes between its beats."""
        streams = messages = 0
        for run in RUNS:
            for kind, dialler, dialled, body in recorded(run):
                if kind != "msgapp":
                    continue
                dice = Random(f"{run}/{streams}")
                reader = AppendReader(dialled, dialler)
                found: list[Message] = []
                for piece in in_pieces(dice, body):
                    found += reader.feed(piece)
                writer = AppendWriter()
                at = 0
                for message in found:
                    self.assertEqual((message.from_, message.to), (dialled, dialler))
                    while body[at : at + 1] == writer.beat():
                        at += 1
                    frame = writer.encode(message)
                    self.assertEqual(frame, body[at : at + len(frame)])
                    at += len(frame)
                streams += 1
                messages += len(found)
        self.assertGreater((streams, messages), (20, 1000))

    def test_messages(self) -> None:
        """So does every stream of messages."""
        streams = messages = 0
        kinds: set[MessageType] = set()
        for run in RUNS:
            for kind, dialler, dialled, body in recorded(run):
                if kind != "message":
                    continue
                dice = Random(f"{run}/{streams}")
                reader, writer = MessageReader(), MessageWriter()
                found: list[Message] = []
                for piece in in_pieces(dice, body):
                    found += reader.feed(piece)
                at = 0
                for message in found:
                    self.assertEqual((message.from_, message.to), (dialled, dialler))
                    while body.startswith(writer.beat(), at):
                        at += len(writer.beat())
                    frame = writer.encode(message)
                    self.assertEqual(frame, body[at : at + len(frame)])
                    at += len(frame)
                    kinds.add(message.type)
                streams += 1
                messages += len(found)
        self.assertGreater((streams, messages), (20, 3000))
        self.assertGreater(len(kinds), 6)
