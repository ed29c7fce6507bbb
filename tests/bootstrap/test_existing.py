"""Joining: what the cluster says against what is listed."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.bootstrap.existing import (
    RemoteCluster,
    RemoteMember,
    check_others,
    check_versions,
    fetch_cluster,
    match_members,
    state_by_answers,
    what_we_lack,
)
from etcdtw.bootstrap.interfaces import BootstrapSettings, ClusterPlan, PlannedMember
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.peer.calling import Answered

T = TypeVar("T")
CLUSTER = 0x534A021C215E0774


class FakeCaller:
    """Answers by URL; others refuse the connection."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def call(
        self, method: bytes, url: str, headers: object, body: bytes, seconds: float
    ) -> Deferred[Answered]:
        self.asked.append(url)
        if url not in self.answers:
            return fail(ConnectionRefusedError())
        cluster = {b"x-etcd-cluster-id": f"{CLUSTER:x}".encode()}
        return succeed(Answered(200, cluster, json.dumps(self.answers[url]).encode()))


class Names:
    """A reactor that knows host names."""

    def __init__(self, **hosts: str) -> None:
        self.hosts = hosts

    def seconds(self) -> float:
        return 0.0

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> None:
        callable(*args, **kw)

    def resolve(self, name: str, timeout: object = ()) -> Deferred[str]:
        return succeed(self.hosts[name])


def member(identity: int, *urls: str, name: str = "") -> RemoteMember:
    return RemoteMember(identity, name, urls, (), False)


class JoinTests(SynchronousTestCase):
    def settings(self, **listed: str) -> BootstrapSettings:
        return BootstrapSettings(
            name="new",
            peer_urls=("http://new:1",),
            initial_cluster=tuple((name, (url,)) for name, url in listed.items()),
            initial_cluster_state="existing",
        )

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def refusal(self, coroutine: Coroutine[Any, Any, object]) -> BootstrapError:
        failure = self.failureResultOf(Deferred.fromCoroutine(coroutine), BootstrapError)
        assert isinstance(failure.value, BootstrapError)
        return failure.value

    def test_first_answer(self) -> None:
        """The first URL that answers is believed; large ids stay exact."""
        listing = [{"id": 14978571085049574512, "peerURLs": ["http://a:1"], "isLearner": True}]
        caller = FakeCaller({"http://b:1/members": listing, "http://c:1/members": []})
        urls = ["http://a:1", "http://b:1", "http://c:1"]
        found = self.result(fetch_cluster(caller, urls))
        self.assertEqual(found.cluster_id, CLUSTER)
        self.assertEqual(
            found.members,
            (RemoteMember(14978571085049574512, "", ("http://a:1",), (), True),),
        )
        self.assertEqual(len(caller.asked), 2)

    def test_nobody_answers(self) -> None:
        """etcd's sentence, and in the hint why each URL brought nothing."""
        error = self.refusal(fetch_cluster(FakeCaller({}), ["http://a:1"]))
        self.assertEqual(
            error.reason,
            "cannot fetch cluster info from peer urls: "
            "could not retrieve cluster information from the given URLs",
        )
        self.assertIn("http://a:1", error.hint)

    def test_ids(self) -> None:
        """Ids are taken over by URLs, whatever the names; host names are resolved."""
        cluster = RemoteCluster(
            CLUSTER,
            (member(3, "http://10.0.0.1:1", name="other"), member(5, "http://new:1")),
        )
        reactor = Names(a="10.0.0.1", new="10.0.0.9")
        settings = self.settings(a="http://a:1", new="http://new:1")
        ids = self.result(match_members(settings, cluster, reactor))
        self.assertEqual(ids, {"a": 3, "new": 5})

    def test_count(self) -> None:
        """A member that was not added first is refused, and told to be."""
        cluster = RemoteCluster(CLUSTER, (member(3, "http://a:1", name="live"),))
        settings = self.settings(a="http://a:1", new="http://new:1")
        error = self.refusal(match_members(settings, cluster, Names()))
        self.assertEqual(
            error.reason,
            f"error validating peerURLs {{ClusterID:{CLUSTER:x} Members:[&{{ID:3 "
            "RaftAttributes:{PeerURLs:[http://a:1] IsLearner:false} "
            "Attributes:{Name:live ClientURLs:[]}}] RemovedMemberIDs:[]}: "
            "member count is unequal",
        )
        self.assertIn("etcdctl member add new", error.hint)

    def test_other_url(self) -> None:
        """RC10, RE2: a member that was added with another URL is named, with what was compared."""
        cluster = RemoteCluster(CLUSTER, (member(3, "http://a:1"), member(5, "http://10.0.0.8:7")))
        settings = self.settings(a="http://a:1", new="http://10.0.0.8:1")
        error = self.refusal(match_members(settings, cluster, Names()))
        self.assertTrue(
            error.reason.endswith(
                "PeerURLs: no match found for existing member (5, [http://10.0.0.8:7]), last "
                'resolver error ("http://10.0.0.8:7"(resolved from "http://10.0.0.8:7") != '
                '"http://10.0.0.8:1"(resolved from "http://10.0.0.8:1"))'
            ),
            error.reason,
        )

    def test_versions(self) -> None:
        """A cluster of a later version is not joined; who does not say is passed over."""
        cluster = RemoteCluster(CLUSTER, (member(3, "http://a:1"), member(4, "http://b:1")))
        settings = self.settings(new="http://new:1")
        for version, joins in (("3.4.0", True), ("3.5.0", True), ("3.6.0", False)):
            caller = FakeCaller({"http://b:1/version": {"etcdcluster": version}})
            check = check_versions(caller, settings, cluster)
            if joins:
                self.result(check)
            else:
                error = self.refusal(check)
                self.assertEqual(error.reason, "incompatible with current running cluster")

    def founding(
        self, answers: Mapping[str, object], cluster_id: int = CLUSTER
    ) -> Coroutine[Any, Any, None]:
        """Member 5 asks the two others of its plan; those that answer belong to CLUSTER."""
        urls = {3: "http://a:1", 4: "http://b:1", 5: "http://new:1"}
        plan = ClusterPlan(
            cluster_id=cluster_id,
            member_id=5,
            members=tuple(PlannedMember(each, f"m{each}", (url,)) for each, url in urls.items()),
            token="t",
            new=True,
        )
        self.caller = FakeCaller(answers)
        return check_others(plan, self.caller)

    def test_bootstrapped(self) -> None:
        """RC16: whom any of the others knows with client URLs has been here before."""
        known = {"id": 5, "name": "n", "peerURLs": ["http://new:1"], "clientURLs": ["http://new:2"]}
        other = {"id": 3, "peerURLs": ["http://a:1"], "clientURLs": ["http://a:2"]}
        error = self.refusal(self.founding({"http://b:1/members": [other, known]}))
        self.assertEqual(error.reason, "member 5 has already been bootstrapped")
        self.assertIn("etcdctl member remove 5", error.hint)
        self.assertEqual(self.caller.asked, ["http://a:1/members", "http://b:1/members"])

    def test_not_bootstrapped(self) -> None:
        """Nobody is up, nobody knows it, it never served, or the answer is none: it may found."""
        idle = {"id": 5, "peerURLs": ["http://new:1"]}
        other = {"id": 3, "peerURLs": ["http://a:1"], "clientURLs": ["http://a:2"]}
        for answer in ([], [other], [idle], "nonsense", [{"id": "x"}], {"message": "none"}):
            self.result(self.founding({"http://a:1/members": answer}))
        self.result(self.founding({}))

    def test_conflicting(self) -> None:
        """ER4: where a majority of the others answers, and all that do belong to another cluster,
        that is said, with the guide's sentence. Fewer prove nothing."""
        other = {"id": 3, "name": "infra0", "peerURLs": ["http://a:1"]}
        answers = {f"http://{each}:1/members": [other] for each in "ab"}
        error = self.refusal(self.founding(answers, 0xDE83BFE8225735AB))
        self.assertEqual(
            error.sentence,
            "etcd: conflicting cluster ID to the target cluster "
            "(534a021c215e0774 != de83bfe8225735ab). Exiting.",
        )
        self.assertIn("infra0=http://a:1", error.hint)
        del answers["http://b:1/members"]
        self.result(self.founding(answers, 0xDE83BFE8225735AB))

    def test_state_by_answers(self) -> None:
        """``auto``: nobody there, or founders of the same cluster, mean founding it; members of
        another cluster, or that know this member by another id, mean joining theirs."""
        plan = ClusterPlan(cluster_id=CLUSTER, member_id=5, members=(), token="t", new=True)

        def state(*clusters: tuple[int, int]) -> str:
            answers = [
                (
                    f"http://m{each}",
                    RemoteCluster(cluster, (RemoteMember(each, "", (), (), False),)),
                )
                for cluster, each in clusters
            ]
            return state_by_answers(plan, answers)[0]

        self.assertEqual(state(), "new")
        self.assertEqual(state((CLUSTER, 5), (CLUSTER, 5)), "new")
        self.assertEqual(state((7, 5)), "existing")
        self.assertEqual(state((CLUSTER, 5), (CLUSTER, 6)), "existing")

    def test_what_we_lack(self) -> None:
        """Auth that is on is told before a join; silence, refusals and answers of other kinds are
        nothing to tell."""
        members = (
            RemoteMember(3, "a", ("http://a:1",), ("http://a:2",), False),
            RemoteMember(4, "b", ("http://b:1",), ("http://b:2",), False),
        )
        for auth, count in (
            ({"enabled": True}, 1),
            ({}, 0),
            ({"error": "x"}, 0),
            (["enabled"], 0),
            (None, 0),
        ):
            caller = FakeCaller({} if auth is None else {"http://b:2/v3/auth/status": auth})
            cluster = RemoteCluster(CLUSTER, members)
            found = self.result(what_we_lack(caller, cluster))
            self.assertEqual(len(found), count, found)
