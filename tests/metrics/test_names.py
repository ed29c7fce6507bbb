"""What a member shows is what dashboards and alerts for etcd 3.5 ask for."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.gateway.asking import ask
from tests.gateway.cases import Case
from tests.process.member import Member, free_ports, server_under_test

RECORDED = Path(__file__).parent.parent / "vectors" / "metrics-3.5.txt"

ABSENT = {
    "go_": "there is no Go runtime; python_ has the counterparts",
    "etcd_server_go_version": "there is none; python_info has the counterpart",
    "etcd_grpc_proxy_": "a member is no proxy; the gRPC proxy will show them",
    "etcd_debugging_disk_backend_commit_": "phases of bbolt's commit; LMDB has none",
    "etcd_debugging_mvcc_index_compaction_pause": "the index is compacted with the records",
    "etcd_debugging_snap_save_marshalling": "a snapshot is written out over many turns",
}


def families_of(text: str) -> dict[str, Metric]:
    return {each.name: each for each in text_string_to_metric_families(text)}


def is_absent(name: str) -> bool:
    return name.startswith(tuple(ABSENT))


def shape(family: Metric) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names of samples with names of labels; bounds as they are written."""
    for sample in family.samples:
        bound = sample.labels.get("le", "")
        yield sample.name + bound, tuple(sorted(sample.labels))


class NamesTests(SynchronousTestCase):
    timeout = 60

    def setUp(self) -> None:
        self.port = free_ports(1)[0]
        self.member = Member(
            server_under_test(), f"--listen-metrics-urls=http://127.0.0.1:{self.port}"
        )
        self.addCleanup(self.member.close)
        self.member.start()

    def scrape(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        self.assertEqual(
            answer.getheader("content-type"), "text/plain; version=0.0.4; charset=utf-8"
        )
        return text

    def test_extensive(self) -> None:
        """With ``--metrics extensive`` there is also how long each RPC took, as etcd shows it:
        those of the gateway are RPCs."""
        name = "grpc_server_handling_seconds"
        self.assertNotIn(name, families_of(self.scrape()))
        self.member.stop()
        self.member.add_flags("--metrics=extensive")
        self.member.start()
        for _ in range(3):
            ask(self.member.client_port, Case("/v3/kv/put", '{"key":"YQ=="}'))
        shown = families_of(self.scrape())
        self.assertEqual(shown[name].type, "histogram")
        put = {"grpc_type": "unary", "grpc_service": "etcdserverpb.KV", "grpc_method": "Put"}
        samples = [
            each
            for each in shown[name].samples
            if {name: value for name, value in each.labels.items() if name != "le"} == put
        ]
        bounds = [each.labels["le"] for each in samples if "le" in each.labels]
        self.assertEqual(" ".join(bounds), "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf")
        values = {each.name.removeprefix(name): each.value for each in samples}
        self.assertEqual(values["_count"], 3)
        self.assertGreater(values["_sum"], 0)
        started = {tuple(each.labels.items()) for each in shown["grpc_server_started"].samples}
        timed = {tuple(each.labels.items()) for each in shown[name].samples if "_sum" in each.name}
        self.assertEqual(timed, started)

    def test_every_family(self) -> None:
        """Each family of etcd 3.5.1 whose feature exists is there with its kind, its labels and,
        for distributions, its bounds."""
        for path, body in (
            ("/v3/kv/put", '{"key":"YQ=="}'),
            ("/v3/kv/deleterange", '{"key":"YQ=="}'),
            ("/v3/lease/grant", '{"TTL":100}'),
        ):
            ask(self.member.client_port, Case(path, body))
        for method in ("PUT", "GET"):
            ask(self.member.client_port, Case("/v2/keys/a", "", method))
        recorded = families_of(RECORDED.read_text())
        shown = families_of(self.scrape())
        for name, family in recorded.items():
            if is_absent(name):
                self.assertNotIn(name, shown, f"no longer absent: {name}")
                continue
            self.assertIn(name, shown)
            self.assertEqual(shown[name].type, family.type, name)
            expected, found = set(shape(family)), set(shape(shown[name]))
            if name not in ("grpc_server_started", "grpc_server_handled"):
                self.assertLessEqual(expected, found, name)
        self.assertGreater(len([name for name in recorded if not is_absent(name)]), 70)

    def test_reasons(self) -> None:
        """Everything listed as absent is a family of etcd's."""
        recorded = families_of(RECORDED.read_text())
        for beginning in ABSENT:
            self.assertTrue(any(name.startswith(beginning) for name in recorded), beginning)

    def test_methods(self) -> None:
        """Calls are counted from zero on, for every method and status that etcd lists."""
        recorded = families_of(RECORDED.read_text())
        shown = families_of(self.scrape())
        for name in ("grpc_server_started", "grpc_server_handled"):
            labels = [
                {tuple(sorted(each.labels.items())) for each in side[name].samples}
                for side in (recorded, shown)
            ]
            self.assertEqual(labels[0] - labels[1], set())

    def test_counts(self) -> None:
        """What is done is counted."""
        before = families_of(self.scrape())
        for _ in range(3):
            ask(self.member.client_port, Case("/v3/kv/put", '{"key":"YQ==","value":"YWJj"}'))
        ask(self.member.client_port, Case("/v3/kv/range", '{"key":"YQ=="}'))
        ask(self.member.client_port, Case("/health", None, "GET"))
        after = families_of(self.scrape())

        def grown(name: str, sample: str = "") -> float:
            def total(families: dict[str, Metric]) -> float:
                samples = families[name].samples
                return sum(each.value for each in samples if each.name == (sample or each.name))

            return total(after) - total(before)

        self.assertEqual(grown("etcd_mvcc_put", "etcd_mvcc_put_total"), 3)
        self.assertEqual(grown("etcd_debugging_mvcc_total_put_size_in_bytes"), 12)
        self.assertEqual(grown("etcd_mvcc_range", "etcd_mvcc_range_total"), 1)
        self.assertEqual(grown("etcd_server_proposals_applied_total"), 3)
        self.assertEqual(grown("etcd_server_health_success"), 1)
        self.assertEqual(grown("grpc_server_handled", "grpc_server_handled_total"), 4)
        self.assertEqual(grown("etcd_debugging_mvcc_keys_total"), 1)
        for name in ("etcd_disk_wal_fsync_duration_seconds", "etcd_server_apply_duration_seconds"):
            self.assertEqual(grown(name, f"{name}_count"), 3)
            self.assertGreater(grown(name, f"{name}_sum"), 0)

    def test_v2_requests(self) -> None:
        """Requests for v2 keys are counted by method, and refusals by status too; a GET through the
        log is a QGET, watches have no duration, and applies go by the method as well."""
        for method, path, body in (
            ("PUT", "/v2/keys/a", "value=1"),
            ("GET", "/v2/keys/a", None),
            ("GET", "/v2/keys/a?quorum=true", None),
            ("GET", "/v2/keys/b", None),
            ("PUT", "/v2/keys/a?prevExist=false", "value=2"),
            ("GET", "/v2/keys/a?wait=true", None),
            ("PUT", "/v2/keys/a?ttl=x", ""),
        ):
            ask(self.member.client_port, Case(path, body, method))
        shown = families_of(self.scrape())

        def values(name: str, sample: str, *labels: str) -> dict[str, float]:
            return {
                " ".join(each.labels[label] for label in labels): each.value
                for each in shown[name].samples
                if each.name == sample and each.labels.get("version", "v2") == "v2"
            }

        name = "etcd_http_received"
        self.assertEqual(
            values(name, f"{name}_total", "method"), {"PUT": 2.0, "GET": 3.0, "QGET": 1.0}
        )
        name = "etcd_http_failed"
        self.assertEqual(
            values(name, f"{name}_total", "method", "code"), {"GET 404": 1.0, "PUT 412": 1.0}
        )
        name = "etcd_http_successful_duration_seconds"
        self.assertEqual(
            values(name, f"{name}_count", "method"), {"PUT": 1.0, "GET": 1.0, "QGET": 1.0}
        )
        name = "etcd_server_apply_duration_seconds"
        applied = values(name, f"{name}_count", "op", "success")
        self.assertEqual((applied["QGET true"], applied["PUT false"]), (1.0, 1.0))
        watches = shown["etcd_debugging_store_watch_requests"].samples[0].value
        self.assertEqual(watches, 1.0)
