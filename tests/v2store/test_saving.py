"""Writing out one moment of the tree while it changes."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.v2store import Saving, V2Error, V2Store, recover, save

PATHS = [f"/1/{a}{b}" for a in "abc" for b in ("", "/x", "/y", "/x/deep", "/_hidden")]


def change(store: V2Store, dice: Random) -> None:
    """Some write; a refused one is fine."""
    path = dice.choice(PATHS)
    expiration = dice.choice((0, 0, 2_000_000_000_000_000_000 + dice.randrange(9)))
    try:
        match dice.randrange(7):
            case 0:
                store.set(path, str(dice.random()), expiration=expiration)
            case 1:
                store.create(path, str(dice.random()), in_order=dice.random() < 0.5)
            case 2:
                store.update(path, str(dice.random()), expiration=expiration)
            case 3:
                store.delete(path, recursive=dice.random() < 0.7)
            case 4:
                store.compare_and_swap(path, "", 0, "swapped", expiration=expiration)
            case 5:
                store.expire_until(2_000_000_000_000_000_000 + dice.randrange(9))
            case _:
                store.set(path, 'quote " < \u20ac', expiration=expiration)
    except V2Error:
        pass


class SavingTests(SynchronousTestCase):
    def test_one_moment(self) -> None:
        """However writes and steps alternate, the result is what the tree was at the beginning,
        for each of several savings."""
        for seed in range(300):
            dice = Random(seed)
            store = V2Store(lambda: 0)
            for _ in range(dice.randrange(40)):
                change(store, dice)
            open_savings: list[tuple[Saving, bytes]] = []
            for _ in range(60):
                if dice.random() < 0.05:
                    open_savings.append((Saving(store), save(store)))
                change(store, dice)
                if open_savings and dice.random() < 0.4:
                    dice.choice(open_savings)[0].step(dice.randrange(1, 4))
            for saving, expected in open_savings:
                while not saving.step(dice.randrange(1, 9)):
                    change(store, dice)
                self.assertEqual(saving.result(), expected, seed)
            self.assertEqual(store.savings, [])

    def test_recovered(self) -> None:
        """What was written out beside changes recovers to the tree of that moment."""
        store = V2Store(lambda: 0)
        store.set("/1/a/b", "1")
        saving = Saving(store)
        store.delete("/1/a", recursive=True)
        while not saving.step(1):
            pass
        found = V2Store(lambda: 0)
        recover(found, saving.result())
        self.assertEqual(found.get("/1/a/b").node.value, "1")

    def test_cost(self) -> None:
        """Steps do as many nodes as they were asked to, a change copies one node once, and nothing
        is kept when nobody saves."""
        store = V2Store(lambda: 0)
        for number in range(1000):
            store.set(f"/1/d{number % 10}/{number}", "v")
        saving = Saving(store)
        for _ in range(3):
            store.set("/1/d1/1", "w")
        self.assertEqual(len(saving._kept), 1)
        steps = 1
        while not saving.step(50):
            steps += 1
        nodes_and_events = 1000 + 10 + 2 + 1000
        self.assertEqual(steps, nodes_and_events // 50 + 1)
        self.assertEqual((len(saving._kept), store.savings), (0, []))
