"""The rules for changing members, and what they leave in the tree and in the backend."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from etcdtw import errors
from etcdtw.errors import EtcdError
from etcdtw.membership import (
    Member,
    Members,
    add_change,
    added_member,
    apply_membership,
    apply_v2_request,
    check_add,
    check_promote,
    check_remove,
    conf_state_json,
    founding_member,
    parse_member,
    promote_change,
    publish_request,
    remove_change,
    update_change,
    version_request,
)
from etcdtw.pb.membership_pb2 import (
    Attributes,
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
)
from etcdtw.raft.messages import ConfChange, ConfChangeType, ConfState
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.v2store import V2Error, V2Store
from etcdtw.v2store.saving import save


def member(number: int, learner: bool = False, name: str = "") -> Member:
    return Member(number, (f"http://h{number}:2380",), name, is_learner=learner)


class MembersTests(SynchronousTestCase):
    """Members over a tree and a backend."""

    def setUp(self) -> None:
        self.store = V2Store(lambda: 0)
        self.backend = MemoryBackend()
        self.members = Members(self.store, self.backend)
        for number in (1, 2):
            self.change(add_change(0, member(number, name=f"m{number}")))

    def change(self, change: ConfChange) -> None:
        self.assertIsNone(self.members.check(change))
        self.members.apply(change)

    def assertRefused(self, change: ConfChange, text: str, v3: type[EtcdError]) -> None:
        refused = self.members.check(change)
        assert refused is not None, "the change was let pass"
        self.assertEqual(str(refused), text)
        self.assertIs(type(refused.for_v3()), v3)

    def test_add(self) -> None:
        """A new member stands in the tree with its peer URLs, and whole in the backend."""
        self.change(add_change(9, member(0xAB, learner=True)))
        raft_attributes = self.store.get("/0/members/ab/raftAttributes").node.value
        self.assertEqual(raft_attributes, '{"peerURLs":["http://h171:2380"],"isLearner":true}')
        self.assertEqual(
            self.backend.get(b"members", b"ab"),
            b'{"id":171,"peerURLs":["http://h171:2380"],"isLearner":true}',
        )
        self.assertEqual([each.id for each in self.members.all()], [1, 2, 0xAB])
        self.assertEqual([each.id for each in self.members.voters()], [1, 2])

    def test_remove(self) -> None:
        """A removed member leaves its id behind, in both stores, and may not come back."""
        self.change(remove_change(9, 2))
        self.assertRaises(V2Error, self.store.get, "/0/members/2")
        self.assertEqual(self.store.get("/0/removed_members/2").node.value, "")
        self.assertIsNone(self.backend.get(b"members", b"2"))
        self.assertEqual(self.backend.get(b"members_removed", b"2"), b"removed")
        again = add_change(9, Member(2, ("http://other:1",)))
        self.assertRefused(again, "membership: ID removed", errors.MemberNotFound)

    def test_promote(self) -> None:
        """A promoted learner votes; nobody is promoted twice."""
        self.change(add_change(9, member(3, learner=True)))
        self.change(promote_change(9, 3))
        self.assertEqual([each.id for each in self.members.voters()], [1, 2, 3])
        raft_attributes = self.store.get("/0/members/3/raftAttributes").node.value
        self.assertEqual(raft_attributes, '{"peerURLs":["http://h3:2380"]}')
        text = "membership: can only promote a learner member"
        self.assertRefused(promote_change(9, 3), text, errors.MemberNotLearner)

    def test_update(self) -> None:
        """Other peer URLs replace the old ones; name and client URLs stay."""
        self.members.publish(1, '{"name":"one","clientURLs":["http://c"]}')
        self.change(update_change(9, Member(1, ("http://new:1",))))
        expected = Member(1, ("http://new:1",), "one", ("http://c",))
        self.assertEqual(self.members.get(1), expected)
        stored = json.loads(self.backend.get(b"members", b"1") or b"")
        self.assertEqual(stored["peerURLs"], ["http://new:1"])
        self.assertEqual(stored["name"], "one")

    def test_refusals(self) -> None:
        """Every rule refuses with etcd's text, in the v2 form and in the v3 form."""
        self.assertRefused(
            add_change(9, Member(1, ("http://x",))), "membership: ID exists", errors.MemberExists
        )
        taken = "membership: peerURL exists"
        urls = ("http://h1:2380",)
        self.assertRefused(add_change(9, Member(7, urls)), taken, errors.PeerURLExists)
        self.assertRefused(update_change(9, Member(2, urls)), taken, errors.PeerURLExists)
        unknown = "membership: ID not found"
        for change in (promote_change(9, 7), remove_change(9, 7), update_change(9, member(7))):
            self.assertRefused(change, unknown, errors.MemberNotFound)
        self.change(add_change(9, member(3, learner=True)))
        many = "membership: too many learner members in cluster"
        second = add_change(9, member(4, learner=True))
        self.assertRefused(second, many, errors.TooManyLearners)

    def test_own_url_again(self) -> None:
        """An update may keep the member's own URL."""
        self.assertIsNone(self.members.check(update_change(9, member(1))))

    def test_recover(self) -> None:
        """A new object over the same tree knows the same."""
        self.members.publish(1, '{"name":"one","clientURLs":["http://c"]}')
        self.change(add_change(9, member(3, learner=True)))
        self.change(remove_change(9, 2))
        self.members.set_version("3.5.0")
        twin = Members(self.store)
        twin.recover()
        self.assertEqual(twin.all(), self.members.all())
        self.assertEqual(twin.removed, {2})
        self.assertEqual(twin.version, "3.5.0")

    def test_names_of_founders_are_not_in_the_tree(self) -> None:
        """Until it publishes itself, a founder's name is known, but not from the tree."""
        self.assertEqual([each.name for each in self.members.all()], ["m1", "m2"])
        twin = Members(self.store)
        twin.recover()
        self.assertEqual([each.name for each in twin.all()], ["", ""])

    def test_publish_and_version_from_the_log(self) -> None:
        """The two v2 requests of membership reach members, tree and backend."""
        path = member(1).path
        request = publish_request(5, path, Member(1, (), "x&y", ("http://c",)).attributes_json())
        self.assertIsNone(apply_v2_request(self.store, self.members, request))
        apply_v2_request(self.store, self.members, version_request(6, "3.5.0"))
        self.assertEqual(self.backend.get(b"cluster", b"clusterVersion"), b"3.5.0")
        published = self.members.get(1)
        assert published is not None, "member 1 is gone"
        self.assertEqual((published.name, published.client_urls), ("x&y", ("http://c",)))
        value = self.store.get(path + "/attributes").node.value
        self.assertEqual(value, '{"name":"x\\u0026y","clientURLs":["http://c"]}')

    def test_backend_left_alone(self) -> None:
        """An entry that the backend holds already changes the tree and the members only."""
        unused = MemoryBackend()
        self.members.use_backend(unused)
        self.members.apply(add_change(9, member(3)), to_backend=False)
        self.members.apply(remove_change(9, 2), to_backend=False)
        request = publish_request(5, member(1).path, '{"name":"one"}')
        apply_v2_request(self.store, self.members, request, to_backend=False)
        self.members.set_version("3.5.0", to_backend=False)
        self.assertEqual(unused.buckets(), [])
        self.assertEqual([each.id for each in self.members.all()], [1, 3])

    def test_in_the_words_of_3_6(self) -> None:
        """What etcd 3.6 proposes in place of v2 requests has the same effect."""
        other_store, other_backend = V2Store(lambda: 0), MemoryBackend()
        other = Members(other_store, other_backend)
        for number in (1, 2):
            change = add_change(0, member(number, name=f"m{number}"))
            self.assertIsNone(other.check(change))
            other.apply(change)
        apply_v2_request(
            self.store,
            self.members,
            publish_request(5, member(2).path, '{"name":"n","clientURLs":["http://c:2379"]}'),
        )
        apply_v2_request(self.store, self.members, version_request(6, "3.5.0"))
        attributes = Attributes(name="n", client_urls=["http://c:2379"])
        published = ClusterMemberAttrSetRequest(member_ID=2, member_attributes=attributes)
        apply_membership(other, "cluster_member_attr_set", published)
        apply_membership(other, "cluster_version_set", ClusterVersionSetRequest(ver="3.5.0"))
        self.assertEqual(other.all(), self.members.all())
        self.assertEqual((other.version, other.stored_version()), ("3.5.0", "3.5.0"))
        self.assertEqual(save(other_store), save(self.store))
        self.assertEqual(other.all_stored(), self.members.all_stored())

    def test_publish_of_strangers(self) -> None:
        """Attributes of a removed member are skipped, those of a stranger are an error."""
        self.change(remove_change(9, 2))
        self.assertFalse(self.members.publish(2, '{"name":"late"}'))
        self.assertRaises(KeyError, self.members.publish, 77, "{}")
        self.assertRaises(ValueError, self.members.publish, 1, "[]")

    def test_other_requests(self) -> None:
        """Anything else is an ordinary request to the tree."""
        request = publish_request(5, "/1/members/1", "{}")
        event = apply_v2_request(self.store, self.members, request)
        assert event is not None, "no event for an ordinary PUT"
        self.assertEqual(event.node.key, "/1/members/1/attributes")


class ContextTests(SynchronousTestCase):
    """Bytes of changes, and ids."""

    def test_contexts(self) -> None:
        """Contexts have Go's field order, no spaces, and no empty fields but the peer URLs."""
        whole = Member(5, ("http://a", "http://b"), "n", ("http://c",), True)
        self.assertEqual(
            add_change(1, whole).context,
            b'{"id":5,"peerURLs":["http://a","http://b"],"isLearner":true,"name":"n",'
            b'"clientURLs":["http://c"]}',
        )
        self.assertEqual(parse_member(whole.json()), whole)
        self.assertEqual(promote_change(1, 5).context, b'{"id":5,"peerURLs":null,"isPromote":true}')
        self.assertEqual(
            remove_change(1, 5),
            ConfChange(id=1, type=ConfChangeType.REMOVE_NODE, node_id=5, context=None),
        )
        self.assertEqual(add_change(1, whole).type, ConfChangeType.ADD_LEARNER_NODE)

    def test_ids(self) -> None:
        """Founders take their id from URLs and token, later members from URLs and time."""
        founder = founding_member("x", ["http://127.0.0.1:22380"], "etcd-cluster")
        self.assertEqual(founder.id, 0x9E737FEBB6B99EEE)
        urls = ["http://b", "http://a"]
        self.assertEqual(added_member(urls, 7).id, added_member(reversed(urls), 7).id)
        self.assertNotEqual(added_member(urls, 7).id, added_member(urls, 8).id)
        self.assertEqual(added_member(urls, 7).peer_urls, ("http://a", "http://b"))

    def test_conf_state(self) -> None:
        """The backend's copy of the configuration names learners only if there are some."""
        self.assertEqual(
            conf_state_json(ConfState(voters=(1, 2))), '{"voters":[1,2],"auto_leave":false}'
        )
        self.assertEqual(
            conf_state_json(ConfState(voters=(1,), learners=(3,))),
            '{"voters":[1],"learners":[3],"auto_leave":false}',
        )

    def test_no_member(self) -> None:
        """What is not a member is refused."""
        for data in ("", "[]", "3", '{"id":1,"peerURLs":7}', '{"id":"x"}'):
            self.assertRaises(ValueError, parse_member, data)


class QuorumCheckTests(SynchronousTestCase):
    """The proposer's look at who is there."""

    def cluster(self, started: int, silent: int = 0, learners: int = 0) -> Members:
        """Voters 1.. of which ``started`` have a name, then learners."""
        members = Members(V2Store(lambda: 0))
        count = started + silent
        for number in range(1, count + learners + 1):
            name = f"m{number}" if number <= started else ""
            members.apply(add_change(0, member(number, learner=number > count, name=name)))
        return members

    def test_add_voter(self) -> None:
        """A voter is added only if those started are a quorum with it; one may always get two."""
        self.assertIsNone(check_add(self.cluster(1), False, {1}))
        self.assertIsInstance(
            check_add(self.cluster(1, silent=1), False, {1, 2}), errors.MemberNotEnoughStarted
        )
        self.assertIsNone(check_add(self.cluster(3), False, {1, 2, 3}))

    def test_add_when_somebody_is_away(self) -> None:
        """Nobody is added while a voter is not connected, a learner neither."""
        self.assertIsInstance(check_add(self.cluster(3), False, {1, 2}), errors.Unhealthy)
        self.assertIsInstance(check_add(self.cluster(3), True, {1, 2}), errors.Unhealthy)
        self.assertIsNone(check_add(self.cluster(1, silent=1), True, {1, 2}))

    def test_promote(self) -> None:
        """A learner is promoted only if those started are a quorum with it."""
        self.assertIsNone(check_promote(self.cluster(1, learners=1)))
        self.assertIsInstance(
            check_promote(self.cluster(1, silent=3, learners=1)), errors.MemberNotEnoughStarted
        )

    def test_remove(self) -> None:
        """A voter goes only if those who stay started are a quorum, and enough are connected."""
        three = self.cluster(3)
        self.assertIsNone(check_remove(three, 1, {1, 2, 3}, True))
        self.assertIsNone(check_remove(three, 3, {1, 2}, False))
        self.assertIsInstance(check_remove(three, 1, {1, 2}, True), errors.Unhealthy)
        self.assertIsInstance(
            check_remove(self.cluster(1, silent=1), 1, {1, 2}, True), errors.MemberNotEnoughStarted
        )
        self.assertIsInstance(
            check_remove(self.cluster(1), 1, {1}, True), errors.MemberNotEnoughStarted
        )

    def test_remove_learner(self) -> None:
        """A learner can always go."""
        self.assertIsNone(check_remove(self.cluster(1, learners=1), 2, set(), True))
