"""bbolt files: those of real etcd read, ours written and read by etcdctl, damaged ones refused."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import StorageError
from etcdtw.storage.bolt import BoltFile, write_bolt
from etcdtw.storage.bolt.pages import BRANCH_ELEMENT, BUCKET, LEAF_ELEMENT, PAGE, PageKind
from etcdtw.storage.bolt.status import snapshot_status
from tests.process.member import etcdctl

VECTORS = Path(__file__).parent / "vectors"
STATUS = {
    "single-3.4": (1763209290, 22, 24, 32768),
    "single-3.5": (1096408645, 22, 26, 32768),
    "three-3.4": (3092290011, 22, 26, 45056),
    "three-3.5": (812291440, 22, 28, 32768),
}

Records = Mapping[bytes, Mapping[bytes, bytes]]


class BoltCase(SynchronousTestCase):
    def path(self) -> str:
        path: str = os.path.abspath(self.mktemp())
        return path

    def unpacked(self, vector: Path) -> str:
        path = self.path()
        Path(path).write_bytes(lzma.decompress(vector.read_bytes()))
        return path

    def written(self, records: Records, page_size: int = 4096) -> str:
        path = self.path()

        def scan(bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
            return iter(sorted(records[bucket].items()))

        size = write_bolt(path, list(records), scan, page_size=page_size)
        self.assertEqual(os.path.getsize(path), size)
        return path

    def read(self, path: str) -> dict[bytes, dict[bytes, bytes]]:
        with BoltFile.open(path) as file:
            return {bucket: dict(file.scan(bucket)) for bucket in file.buckets()}


class RealFileTests(BoltCase):
    def test_snapshots_of_real_etcd(self) -> None:
        """Snapshots of etcd 3.4 and 3.5 read to what etcdctl says of them: the hash covers every
        record; and the same records written anew have the same hash."""
        for vector in sorted(VECTORS.glob("*.xz")):
            path = self.unpacked(vector)
            copy = self.path()
            with BoltFile.open(path) as file:
                status = snapshot_status(file)
                write_bolt(copy, file.buckets(), file.scan)
            self.assertEqual(tuple(status), STATUS[vector.name.split(".snapshot")[0]])
            with BoltFile.open(copy) as file:
                again = snapshot_status(file)
            self.assertEqual(again[:3], status[:3])

    def test_read_by_etcdctl(self) -> None:
        """etcdctl finds in a file of ours, of several levels, with values over several pages and
        empty buckets, what we put there."""
        records = {
            b"key": {
                n.to_bytes(8, "big") + b"_" + bytes(8): b"v" * (n * 7919 % 9000)
                for n in range(1, 3000)
            },
            b"lease": {},
            b"meta": {b"consistent_index": b"\0" * 7 + b"\5"},
        }
        path = self.written(records)
        said = subprocess.run(
            [etcdctl(), "snapshot", "status", path, "-w", "json"], capture_output=True, check=True
        )
        with BoltFile.open(path) as file:
            status = snapshot_status(file)
        self.assertEqual(
            json.loads(said.stdout),
            dict(zip(("hash", "revision", "totalKey", "totalSize"), status, strict=True)),
        )
        self.assertEqual(status.total_keys, 3000)


class RoundTripTests(BoltCase):
    def test_any_records(self) -> None:
        """Any records come back, and every page of the file is used once."""
        keys = st.binary(min_size=1, max_size=40) | st.integers(1, 32768).map(lambda n: b"k" * n)
        values = st.binary(max_size=40) | st.integers(0, 20_000).map(lambda n: b"v" * n)
        buckets = st.dictionaries(st.binary(min_size=1, max_size=8), st.dictionaries(keys, values))

        @settings(max_examples=60, deadline=None, derandomize=True)
        @given(buckets, st.sampled_from((512, 4096, 65536)))
        def check(records: Records, page_size: int) -> None:
            path = self.written(records, page_size)
            self.assertEqual(self.read(path), records)
            self.check_pages(path, page_size)

        check()

    def test_many_levels(self) -> None:
        """Small pages and many keys make deep trees; they come back in order."""
        records = {b"key": {b"%06d" % n: b"" for n in range(20_000)}}
        path = self.written(records, 512)
        with BoltFile.open(path) as file:
            self.assertEqual([key for key, _ in file.scan(b"key")], sorted(records[b"key"]))
        self.check_pages(path, 512)

    def test_refused_records(self) -> None:
        """Keys that are not in order, empty or too long are refused rather than written."""
        for keys in ([b"b", b"a"], [b"a", b"a"], [b""], [b"k" * 32769]):
            self.refused(keys)

    def refused(self, keys: list[bytes]) -> None:
        with self.assertRaises(StorageError):
            write_bolt(self.path(), [b"key"], lambda _: iter([(k, b"") for k in keys]))

    def check_pages(self, path: str, page_size: int) -> None:
        """Every page behind the meta pages belongs to the tree exactly once, names itself, and
        elements lie behind the table of their page."""
        data = Path(path).read_bytes()
        seen: list[int] = []

        def visit(number: int) -> None:
            start = number * page_size
            stored, kind, count, overflow = PAGE.unpack_from(data, start)
            self.assertEqual(stored, number)
            seen.extend(range(number, number + overflow + 1))
            for n in range(count):
                if kind == PageKind.BRANCH:
                    at = start + PAGE.size + n * BRANCH_ELEMENT.size
                    distance, _, child = BRANCH_ELEMENT.unpack_from(data, at)
                    visit(child)
                else:
                    at = start + PAGE.size + n * LEAF_ELEMENT.size
                    flags, distance, length, _ = LEAF_ELEMENT.unpack_from(data, at)
                    if flags:
                        visit(BUCKET.unpack_from(data, at + distance + length)[0])
                self.assertGreaterEqual(at + distance, start + PAGE.size + count * 16)

        with BoltFile.open(path) as file:
            root = file.root
        visit(root)
        self.assertEqual(sorted(seen), list(range(2, len(data) // page_size)))


class DamageTests(BoltCase):
    def test_not_bolt(self) -> None:
        """What is no bbolt file is refused by name."""
        for content in (b"", b"x" * 100, bytes(8192), os.urandom(8192)):
            path = self.path()
            Path(path).write_bytes(content)
            with self.assertRaises(StorageError) as caught:
                BoltFile.open(path)
            self.assertIn(path, str(caught.exception))

    def test_one_meta_page_is_enough(self) -> None:
        """With either meta page damaged the other one is used."""
        for start in (0, 4096):
            path = self.written({b"key": {b"a": b"1"}})
            self.damage(path, start + 40, b"\xff")
            self.assertEqual(self.read(path), {b"key": {b"a": b"1"}})
        self.damage(path, 40, b"\xff")
        with self.assertRaises(StorageError):
            BoltFile.open(path)

    def test_cut_short(self) -> None:
        """A file without its last pages is refused."""
        path = self.written({b"key": {b"%d" % n: b"v" * 1000 for n in range(10, 90)}})
        os.truncate(path, os.path.getsize(path) - 4096)
        with self.assertRaisesRegex(StorageError, "cut short"):
            BoltFile.open(path)

    def test_any_damage(self) -> None:
        """Whatever bytes are changed, reading ends, and with an error that names the file if with
        one at all."""
        whole = Path(self.written({b"key": {b"%04d" % n: b"v" * 40 for n in range(900)}}, 512))
        content = whole.read_bytes()
        dice = Random(5)
        refused = 0
        for _ in range(1500):
            changed = bytearray(content)
            for _ in range(dice.randrange(1, 4)):
                # Mostly where the structure is: near the beginning of a page.
                at = dice.randrange(len(content) // 512) * 512 + dice.randrange(48)
                changed[at] = dice.choice((0, 1, 2, 0x7F, 0xFF, dice.randrange(256)))
            whole.write_bytes(changed)
            try:
                self.read(str(whole))
            except StorageError as error:
                refused += 1
                self.assertIn(str(whole), str(error))
        self.assertGreater(refused, 500)

    def test_elements_that_share_bytes(self) -> None:
        """A leaf whose second element claims the bytes of the first is refused: 60,000 of them
        could claim a gigabyte each."""
        path = self.written({b"key": {b"a": b"1" * 50, b"b": b"2" * 50}})
        with BoltFile.open(path) as file:
            self.assertEqual(file.buckets(), [b"key"])
        second = 2 * 4096 + PAGE.size + LEAF_ELEMENT.size
        _, distance, *sizes = LEAF_ELEMENT.unpack(Path(path).read_bytes()[second : second + 16])
        self.damage(path, second, LEAF_ELEMENT.pack(0, distance - 50, *sizes))
        with self.assertRaisesRegex(StorageError, "page 2: an element lies where it cannot be"):
            self.read(path)

    def damage(self, path: str, at: int, data: bytes) -> None:
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(data)
