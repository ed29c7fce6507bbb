"""The cluster's own authority (``--auto-tls=mesh``, ``--peer-auto-tls=mesh``): which secret it is
of, and where it is kept."""

from __future__ import annotations

import os.path
from urllib.parse import urlsplit

from etcdtw.app.earlier import has_log
from etcdtw.app.settings import MemberSettings
from etcdtw.errors import ConfigError
from etcdtw.tls.interfaces import SECRET_CHARACTERS_MIN, MeshSettings


def mesh_settings(settings: MemberSettings, side: str) -> MeshSettings:
    """The authority of one side, ``client`` or ``peer``; it is the same for both."""
    flag, secret = _secret(settings)
    return MeshSettings(
        directory=os.path.join(settings.data_dir, "fixtures", "mesh"),
        flag=flag,
        secret=secret,
        for_clients=side == "client",
        has_started=has_log(settings),
    )


def secret_of_mesh(settings: MemberSettings) -> str:
    """What nobody else may read, for who knows it can be a member; empty without a mesh, and where
    the token is too short to be one: no authority is made of it."""
    if not (settings.client_mesh or settings.peer_mesh):
        return ""
    _, secret = _secret(settings)
    return secret if len(secret) >= SECRET_CHARACTERS_MIN else ""


def _secret(settings: MemberSettings) -> tuple[str, str]:
    """The flag and its token. Only the token counts: who joins later may have it from another."""
    if settings.discovery:
        return "discovery", urlsplit(settings.discovery).path.rstrip("/").rpartition("/")[2]
    if settings.discovery_token:
        return "discovery-token", settings.discovery_token
    return "initial-cluster-token", settings.initial_cluster_token


def mesh_problems(settings: MemberSettings) -> list[ConfigError]:
    """Why there can be no authority, if one is asked for; nothing is written."""
    if not (settings.client_mesh or settings.peer_mesh):
        return []
    from etcdtw.tls.mesh import read_kept, secret_fault  # loads OpenSSL

    mesh = mesh_settings(settings, "peer")
    try:
        if read_kept(mesh) is not None:
            return []
    except ConfigError as problem:
        return [problem]
    fault = secret_fault(mesh)
    return [ConfigError(mesh.flag, "flags", fault)] if fault else []
