"""A bootstrap provider as somebody else would write it, packed into a wheel by a test.

The members are in a file, one ``name url`` per line, which is the provider's argument.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

PLUGIN = """
from etcdtw.bootstrap.factories import BootstrapFactory

members_file = BootstrapFactory(
    "members-file",
    "members are in a file, one name and URL per line",
    ("bootstrap-provider",),
    "etcdtw_members_file.claims",
    "etcdtw_members_file.Provider",
)
"""

MODULE = """
from twisted.internet.defer import Deferred
from zope.interface import implementer

from etcdtw.bootstrap.interfaces import ClusterPlan, IBootstrapProvider, PlannedMember
from etcdtw.bootstrap.refusal import BootstrapError
from etcdtw.ids import cluster_id, member_id


def claims(settings):
    return False  # only by name


@implementer(IBootstrapProvider)
class Provider:
    def __init__(self, reactor):
        self._reactor = reactor

    def plan(self, settings):
        return Deferred.fromCoroutine(self._plan(settings))

    async def _plan(self, settings):
        with open(settings.provider_argument, encoding="utf-8") as file:
            listed = dict(line.split() for line in file)
        if settings.name not in listed:
            raise BootstrapError(
                "bootstrap-provider",
                f"{settings.provider_argument} does not list {settings.name}",
                code="ETW-BOOT-FILE",
            )
        token = settings.initial_cluster_token
        members = [
            PlannedMember(member_id((url,), token), name, (url,)) for name, url in listed.items()
        ]
        members.sort(key=lambda each: each.id)
        own = next(each for each in members if each.name == settings.name)
        return ClusterPlan(
            cluster_id=cluster_id(each.id for each in members),
            member_id=own.id,
            members=tuple(members),
            token=token,
            new=True,
        )
"""

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_wheel(directory: Path) -> Path:
    """The wheel that its author would publish."""
    return pack_wheel(
        directory,
        "etcdtw_members_file",
        {
            "etcdtw_members_file.py": MODULE,
            "twisted/plugins/etcdtw_members_file_plugin.py": PLUGIN,
        },
    )


def pack_wheel(directory: Path, name: str, contents: Mapping[str, str]) -> Path:
    """A wheel with these files, in a directory."""
    info = f"{name}-1.0.dist-info"
    files = {
        **contents,
        f"{info}/METADATA": METADATA.format(name.replace("_", "-")),
        f"{info}/WHEEL": WHEEL,
    }
    record = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(each, text)
    return path
