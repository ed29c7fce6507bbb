"""Finding the audiences of a key."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.mvcc.watch_index import AudienceIndex, Interest, prefix_end

KEYS = st.lists(st.sampled_from([0, 97, 255]), min_size=1, max_size=3).map(bytes)
INTERESTS = st.one_of(
    st.builds(Interest, KEYS),
    st.builds(Interest, KEYS, st.just(b"")),
    KEYS.map(lambda key: Interest(key, prefix_end(key))),
    st.tuples(KEYS, KEYS)
    .filter(lambda pair: pair[0] != pair[1])
    .map(lambda pair: Interest(min(pair), max(pair))),
)


def holds(interest: Interest, key: bytes) -> bool:
    if interest.end is None:
        return key == interest.key
    return interest.key <= key and (interest.end == b"" or key < interest.end)


class PrefixEndTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The end of a prefix is the prefix with its last byte that can grow grown by one."""
        self.assertEqual(prefix_end(b"a"), b"b")
        self.assertEqual(prefix_end(b"a\xff"), b"b")
        self.assertEqual(prefix_end(b"\xff\xff"), b"")
        self.assertEqual(prefix_end(b"\x00"), b"\x01")


class IndexTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.booleans(), INTERESTS), min_size=5, max_size=60),
        st.lists(KEYS, min_size=3, max_size=6),
    )
    def test_matches_like_a_plain_loop(
        self, steps: list[tuple[bool, Interest]], keys: list[bytes]
    ) -> None:
        """After any additions and removals a key finds each span that holds it exactly once."""
        index = AudienceIndex[Interest]()
        present: dict[Interest, None] = {}
        for add, interest in steps:
            if add and interest not in present:
                present[interest] = None
                index.add(interest, interest)
            elif not add and present:
                victim = next(iter(present))
                del present[victim]
                index.remove(victim, victim)
        for key in keys:
            found = index.match(key)
            self.assertEqual(sorted(found, key=repr), sorted(set(found), key=repr))
            self.assertEqual(set(found), {each for each in present if holds(each, key)})

    def test_many_ranges(self) -> None:
        """Thousands of overlapping ranges that come and go are found through all rebuilds."""
        index = AudienceIndex[int]()
        spans = [
            Interest(b"%05d" % (number * 7 % 5000), b"%05d!" % (number * 7 % 5000 + number % 50))
            for number in range(3000)
        ]
        alive = set()
        for number, span in enumerate(spans):
            index.add(span, number)
            alive.add(number)
            if number % 3 == 2:
                index.remove(spans[number // 2], number // 2) if number // 2 in alive else None
                alive.discard(number // 2)
        for point in range(0, 5000, 97):
            key = b"%05d" % point
            self.assertEqual(
                sorted(index.match(key)),
                [each for each in sorted(alive) if holds(spans[each], key)],
            )

    def test_shared_span(self) -> None:
        """Audiences of one span are all found, and those that stay survive the others' removal."""
        index = AudienceIndex[str]()
        for span in (
            Interest(b"a"),
            Interest(b"a", b""),
            Interest(b"a", b"b"),
            Interest(b"a", b"c"),
        ):
            index.add(span, "one")
            index.add(span, "two")
            self.assertEqual(index.match(b"a"), ["one", "two"])
            index.remove(span, "one")
            self.assertEqual(index.match(b"a"), ["two"])
            index.remove(span, "two")
            self.assertEqual(index.match(b"a"), [])
