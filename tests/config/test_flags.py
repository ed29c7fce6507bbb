"""The flag table against etcd's own list, the settings record and the documentation page."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from etcdtw.app.settings import MemberSettings
from etcdtw.config.flags import FLAGS, IGNORED_SWITCHES, SECTIONS, Feature
from etcdtw.config.help import docs_page, help_text, version_text
from etcdtw.config.load import member_settings

PROJECT = Path(__file__).resolve().parents[2]
# 3.5.1 prints these two without their default.
UNPRINTED = {"backend-batch-interval", "experimental-bootstrap-defrag-threshold-megabytes"}

# The configuration itself acts on these.
ONLY_CHECKED = {"logger", "strict_bind", "strict_environment"}


def etcd_help() -> dict[str, str]:
    """Flags and defaults that a real etcd 3.5 prints."""
    beside = os.path.join(os.path.dirname(sys.executable), "etcd")
    etcd = beside if os.path.exists(beside) else shutil.which("etcd")
    if etcd is None:
        raise SkipTest("no etcd binary to compare with")
    version = subprocess.run([etcd, "--version"], capture_output=True, text=True).stdout
    if not version.startswith("etcd Version: 3.5."):
        raise SkipTest("the etcd binary is not a 3.5")
    text = subprocess.run([etcd, "--help"], capture_output=True, text=True).stdout
    return {
        found[1]: found[2].strip("'")
        for found in re.finditer(r"^  --([a-z0-9-]+) ?(.*)$", text, re.MULTILINE)
    }


OTHER_DEFAULTS = {"enable-v2"}
"""The v2 API is served unless somebody says no: programs that etcd has left behind still use it."""


class TableTests(SynchronousTestCase):
    def test_etcd_flags(self) -> None:
        """Every flag that etcd lists is in the table with the same default."""
        for name, default in etcd_help().items():
            self.assertIn(name, FLAGS)
            flag = FLAGS[name]
            shown = flag.default if flag.shown_default is None else flag.shown_default
            if name not in UNPRINTED and name not in OTHER_DEFAULTS:
                self.assertEqual(shown, default, name)

    def test_same_order(self) -> None:
        """Our help lists etcd's flags in etcd's order."""
        ours = re.findall(r"^  --([a-z0-9-]+)", help_text(), re.MULTILINE)
        theirs = list(etcd_help())
        self.assertEqual([name for name in ours if name in theirs], theirs)

    def test_settings_fields(self) -> None:
        """The settings record has exactly one field per flag, of the type its kind gives."""
        fields = {each.name: each for each in dataclasses.fields(MemberSettings)}
        self.assertEqual(set(fields), {flag.field for flag in FLAGS.values()})
        types_by_field = typing.get_type_hints(MemberSettings)
        defaults = member_settings("/here")
        for name, declared in types_by_field.items():
            value = getattr(defaults, name)
            if isinstance(declared, types.UnionType):
                self.assertIn(type(value), typing.get_args(declared), name)
                continue
            plain = tuple if isinstance(declared, types.GenericAlias) else declared
            self.assertIs(type(value), plain, name)

    def test_names_are_unique(self) -> None:
        """No flag is declared twice, and none is also an ignored word."""
        names = [flag.name for section in SECTIONS for flag in section.flags]
        self.assertEqual(len(names), len(set(names)))
        self.assertEqual(set(names) & IGNORED_SWITCHES, set())

    def test_working_flags_are_read(self) -> None:
        """A flag that is said to work is read outside the configuration."""
        source = "".join(
            path.read_text(encoding="utf-8")
            for path in (PROJECT / "etcdtw").rglob("*.py")
            if "config" not in path.parts and "pb" not in path.parts
        )
        read = set(re.findall(r"\bsettings\.([a-z0-9_]+)", source))
        read |= set(re.findall(r"\bself\.([a-z0-9_]+)", source))
        working = {flag.field for flag in FLAGS.values() if flag.feature is Feature.HERE}
        self.assertEqual(working - read - ONLY_CHECKED, set())

    def test_docs_page_is_current(self) -> None:
        """``docs/reference/flags.md`` is what the table gives today."""
        page = PROJECT / "docs" / "reference" / "flags.md"
        if not page.exists():
            raise SkipTest("the documentation is not beside the tests")
        self.assertEqual(
            page.read_text(encoding="utf-8"),
            docs_page(),
            "run: python -m etcdtw.config.help > docs/reference/flags.md",
        )

    def test_version(self) -> None:
        """``--version`` has etcd's four lines."""
        heads = [line.partition(":")[0] for line in version_text().splitlines()]
        self.assertEqual(heads, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"])
