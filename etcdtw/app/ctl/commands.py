"""The command line of ``etcdtw ctl``; flags and output are etcdutl's where it has them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

from etcdtw.app.ctl.backup import backup
from etcdtw.app.ctl.discovery import add_commands as add_discovery
from etcdtw.app.ctl.export import export_data_dir
from etcdtw.app.ctl.hashkv import offline_hash
from etcdtw.app.ctl.member import add_commands as add_member
from etcdtw.app.ctl.pki import add_commands as add_pki
from etcdtw.app.ctl.restore import check_advertised, check_digest, restore
from etcdtw.app.refusals import start_error_text
from etcdtw.bootstrap.interfaces import BootstrapSettings
from etcdtw.bootstrap.static import check_listed, check_unique, static_plan
from etcdtw.config.urls import parse_initial_cluster, parse_url_list
from etcdtw.errors import ConfigError, EtcdError, StorageError
from etcdtw.ids import RequestIds
from etcdtw.storage.bolt import BoltFile
from etcdtw.storage.bolt.status import SnapshotStatus, snapshot_status
from etcdtw.storage.datadir import DataDir
from etcdtw.storage.filesystem import OsFilesystem

DEFAULT_NAME = "default"
DEFAULT_PEER_URLS = "http://localhost:2380"
DEFAULT_TOKEN = "etcd-cluster"


def run(words: Sequence[str]) -> int:
    """Do what the words after ``ctl`` say; the exit code."""
    found = _parser().parse_args(words)
    try:
        found.do(found)
    except (ConfigError, EtcdError, StorageError, OSError, ValueError) as error:
        sys.stderr.write(f"Error: {start_error_text(error)}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="etcdtw ctl", description=__doc__.replace("``", ""))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    saving = commands.add_parser(
        "backup", help="copy a member's data, to begin a cluster with by --force-new-cluster"
    )
    saving.add_argument("--data-dir", required=True)
    saving.add_argument("--wal-dir", default="")
    saving.add_argument("--backup-dir", required=True)
    saving.add_argument("--backup-wal-dir", default="")
    saving.add_argument("--with-v3", action="store_true", help="v3 keys as well, not only v2 ones")
    saving.set_defaults(do=_backup)

    export = commands.add_parser(
        "export-db", help="put etcd's own database in the place of a stopped member's keyspace"
    )
    export.add_argument("--data-dir", required=True)
    export.add_argument("--wal-dir", default="")
    export.set_defaults(do=_export)

    hashes = commands.add_parser("hashkv", help="HashKV of a database or a stopped member")
    hashes.add_argument("path", metavar="FILE_OR_DATA_DIR")
    hashes.add_argument("--rev", type=int, default=0, help="default: the newest revision")
    hashes.add_argument("-w", "--write-out", choices=("simple", "json", "table"), default="simple")
    hashes.set_defaults(do=_hash)

    add_discovery(commands)
    add_member(commands)
    add_pki(commands)

    snapshot = commands.add_parser("snapshot", help="look at a snapshot, or begin from one")
    actions = snapshot.add_subparsers(required=True, metavar="COMMAND")
    status = actions.add_parser("status", help="hash, revision and size of a snapshot file")
    status.add_argument("file")
    status.add_argument("-w", "--write-out", choices=("simple", "json", "table"), default="simple")
    status.set_defaults(do=_status)
    restoring = actions.add_parser("restore", help="make a data directory from a snapshot file")
    restoring.add_argument("file")
    restoring.add_argument("--data-dir", default="", help="default: NAME.etcd")
    restoring.add_argument("--wal-dir", default="")
    restoring.add_argument("--name", default=DEFAULT_NAME)
    restoring.add_argument("--initial-cluster", default=f"{DEFAULT_NAME}={DEFAULT_PEER_URLS}")
    restoring.add_argument("--initial-cluster-token", default=DEFAULT_TOKEN)
    restoring.add_argument("--initial-advertise-peer-urls", default=DEFAULT_PEER_URLS)
    restoring.add_argument("--skip-hash-check", action="store_true")
    restoring.set_defaults(do=_restore)
    return parser


def _backup(found: argparse.Namespace) -> None:
    source = DataDir(OsFilesystem(), os.path.abspath(found.data_dir), _absolute(found.wal_dir))
    target, target_wal = os.path.abspath(found.backup_dir), _absolute(found.backup_wal_dir)
    ids = RequestIds(0, int(time.time() * 1000))
    backup(OsFilesystem(), source, target, target_wal, ids, found.with_v3)
    sys.stdout.write(f"backed up to {target}; start a member on it with --force-new-cluster\n")


def _absolute(path: str) -> str | None:
    return os.path.abspath(path) if path else None


def _export(found: argparse.Namespace) -> None:
    directory = os.path.abspath(found.data_dir)
    path = export_data_dir(OsFilesystem(), directory, _absolute(found.wal_dir))
    sys.stdout.write(f"exported to {path}; etcd 3.5 can be started on {found.data_dir}\n")


def _hash(found: argparse.Namespace) -> None:
    result = offline_hash(os.path.abspath(found.path), found.rev)
    if found.write_out == "json":
        sys.stdout.write(_json(("hash", "hashRevision", "compactRevision"), result))
        return
    heads = ["HASH", "HASH REVISION", "COMPACT REVISION"]
    sys.stdout.write(_text(heads, [str(each) for each in result], found.write_out))


def _status(found: argparse.Namespace) -> None:
    with BoltFile.open(found.file) as file:
        sys.stdout.write(status_text(snapshot_status(file), found.write_out))


def status_text(status: SnapshotStatus, form: str) -> str:
    """etcdutl's output."""
    if form == "json":
        return _json(("hash", "revision", "totalKey", "totalSize"), status)
    cells = [
        f"{status.hash:x}",
        str(status.revision),
        str(status.total_keys),
        size_text(status.total_size),
    ]
    return _text(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], cells, form)


def _json(names: Sequence[str], values: Sequence[int]) -> str:
    return json.dumps(dict(zip(names, values, strict=True)), separators=(",", ":")) + "\n"


def _text(heads: Sequence[str], cells: Sequence[str], form: str) -> str:
    """One row, as a line or as a table."""
    if form == "simple":
        return ", ".join(cells) + "\n"
    widths = [max(len(head), len(cell)) for head, cell in zip(heads, cells, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    head = "|" + "|".join(f" {each.center(w)} " for each, w in zip(heads, widths, strict=True))
    body = "|" + "|".join(f" {each.rjust(w)} " for each, w in zip(cells, widths, strict=True))
    return f"{rule}{head}|\n{rule}{body}|\n{rule}"


def size_text(number: int) -> str:
    """A number of bytes as etcdctl shows it: ``33 kB``."""
    if number < 10:
        return f"{number} B"
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    exponent = 0
    value = float(number)
    while value >= 1000 and exponent < len(units) - 1:
        value /= 1000
        exponent += 1
    value = int(value * 10 + 0.5) / 10
    return f"{value:.1f} {units[exponent]}" if value < 10 else f"{value:.0f} {units[exponent]}"


def _restore(found: argparse.Namespace) -> None:
    settings = BootstrapSettings(
        name=found.name,
        peer_urls=parse_url_list(found.initial_advertise_peer_urls.split(",")),
        initial_cluster=parse_initial_cluster(found.initial_cluster),
        initial_cluster_token=found.initial_cluster_token,
    )
    check_listed(settings)
    check_unique(settings)
    check_advertised(settings)
    check_digest(found.file, found.skip_hash_check)
    directory = os.path.abspath(found.data_dir or f"{found.name}.etcd")
    restore(found.file, static_plan(settings), directory, _absolute(found.wal_dir))
    sys.stdout.write(f"restored to {directory}\n")
