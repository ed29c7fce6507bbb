"""The log of the process, as the settings want it. A process has one, so its level is one too."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.logger import ILogObserver

from etcdtw.app.mesh import secret_of_mesh
from etcdtw.app.settings import MemberSettings
from etcdtw.observe.levels import Verbosity, parse_package_levels
from etcdtw.observe.logging import log_observers
from etcdtw.observe.rotation import rotation_from_json

verbosity = Verbosity("info")
"""May be changed while the process runs."""


def observers_for(
    settings: MemberSettings, outputs: Sequence[str] | None = None
) -> list[ILogObserver]:
    """For the settings' outputs, or for these of them. OSError for one that cannot be opened."""
    rotation = None
    if settings.enable_log_rotation:
        rotation = rotation_from_json(json.loads(settings.log_rotation_config_json))
    verbosity.configure(settings.log_level, parse_package_levels(settings.log_package_levels))
    wanted = settings.log_outputs if outputs is None else outputs
    return log_observers(wanted, verbosity, settings.logger, rotation, secret_of_mesh(settings))
