"""Certificates for processes under test: an authority of their own, and pairs of each kind."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from etcdtw.tls.pki import (
    CERT_MODE,
    KEY_MODE,
    YEAR,
    MadePair,
    issue,
    make_authority,
    write_files,
)

HOSTS = ("127.0.0.1", "localhost")


class Secured:
    """An authority and its pairs in the files of a directory: ``ca.crt``, ``member.crt`` and
    ``.key`` for both ports, ``client.crt`` and ``.key`` for who calls; others on demand."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = make_authority(name, datetime.now(UTC), YEAR)
        write_files([(self.path("ca.crt"), self.authority.certificate_pem(), CERT_MODE)])
        self.issue("member", "peer", HOSTS)
        self.issue("client", "client")

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def issue(
        self,
        name: str,
        kind: str,
        hosts: Sequence[str] = (),
        *,
        common_name: str = "",
        begun: timedelta = timedelta(),
        validity: timedelta = YEAR,
        authority: MadePair | None = None,
    ) -> MadePair:
        """A pair in ``<name>.crt`` and ``<name>.key``, valid since ``begun`` ago."""
        made = issue(
            authority or self.authority,
            common_name or name,
            hosts,
            kind,
            datetime.now(UTC) - begun,
            validity,
        )
        write_files(
            [
                (self.path(f"{name}.key"), made.key_pem(), KEY_MODE),
                (self.path(f"{name}.crt"), made.certificate_pem(), CERT_MODE),
            ]
        )
        return made

    # --- as flags and arguments ------------------------------------------------------------------

    def client_port_flags(self, *, authenticated: bool = True) -> list[str]:
        flags = [f"--cert-file={self.path('member.crt')}", f"--key-file={self.path('member.key')}"]
        if authenticated:
            flags += ["--client-cert-auth", f"--trusted-ca-file={self.path('ca.crt')}"]
        return flags

    def peer_flags(self, pair: str = "member") -> list[str]:
        return [
            f"--peer-cert-file={self.path(pair + '.crt')}",
            f"--peer-key-file={self.path(pair + '.key')}",
            "--peer-client-cert-auth",
            f"--peer-trusted-ca-file={self.path('ca.crt')}",
        ]

    def curl(self, pair: str | None = "client") -> list[str]:
        """Words for ``curl``."""
        words = ["curl", "-sS", "-m", "5", "--cacert", self.path("ca.crt")]
        if pair is not None:
            words += ["--cert", self.path(f"{pair}.crt"), "--key", self.path(f"{pair}.key")]
        return words

    def etcdctl(self, pair: str | None = "client") -> list[str]:
        """Words for ``etcdctl`` after its name."""
        words = [f"--cacert={self.path('ca.crt')}"]
        if pair is not None:
            words += [f"--cert={self.path(pair + '.crt')}", f"--key={self.path(pair + '.key')}"]
        return words

    def credentials(self, pair: str = "client") -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            *(
                Path(self.path(name)).read_bytes()
                for name in ("ca.crt", f"{pair}.key", f"{pair}.crt")
            )
        )

    def context(self, pair: str | None = "client") -> ssl.SSLContext:
        """For Python's own HTTP client."""
        context = ssl.create_default_context(cafile=self.path("ca.crt"))
        if pair is not None:
            context.load_cert_chain(self.path(f"{pair}.crt"), self.path(f"{pair}.key"))
        return context
