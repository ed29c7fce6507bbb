"""``etcdtw ctl pki``: an authority of one's own, and a look at what a port shows."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from etcdtw.client.endpoints import parse_endpoint

_HOURS = 8760
_AUTHORITY_YEARS = 10
_CONNECT_SECONDS = 5.0


def add_commands(commands: Any) -> None:
    """Put ``pki`` with its own commands among those of ``etcdtw ctl``."""
    pki = commands.add_parser("pki", help="make certificates, or look at those of a port")
    actions = pki.add_subparsers(required=True, metavar="COMMAND")

    init = actions.add_parser("init", help="make an authority: ca.crt and ca.key")
    init.add_argument("--common-name", default="etcd CA")
    init.add_argument("--years", type=int, default=_AUTHORITY_YEARS)
    init.set_defaults(do=_init)

    issue = actions.add_parser("issue", help="make NAME.crt and NAME.key, signed by the authority")
    issue.add_argument("name", metavar="NAME")
    issue.add_argument("--hosts", default="", help="names and addresses, with commas between")
    issue.add_argument("--common-name", default="", help="default: NAME")
    issue.add_argument(
        "--kind",
        choices=("peer", "server", "client"),
        default="peer",
        help="what it may be used for; peer: both directions, as members need it (default)",
    )
    issue.add_argument("--hours", type=int, default=_HOURS)
    issue.set_defaults(do=_issue)

    revoke = actions.add_parser("revoke", help="put certificates on the authority's list, crl.pem")
    revoke.add_argument("names", metavar="NAME", nargs="+")
    revoke.set_defaults(do=_revoke)
    for action in (init, issue, revoke):
        action.add_argument("--dir", default="pki", help="where the files are (default: pki)")

    explain = actions.add_parser("explain", help="say what a TLS port shows, and what is wrong")
    explain.add_argument("endpoint", metavar="HOST:PORT")
    explain.add_argument("--cacert", default="", help="authorities; default: this system's")
    explain.add_argument("--cert", default="", help="certificate to show")
    explain.add_argument("--key", default="")
    explain.set_defaults(do=_explain)


def _init(found: argparse.Namespace) -> None:
    from etcdtw.tls.pki import (
        CERT_MODE,
        DIRECTORY_MODE,
        KEY_MODE,
        YEAR,
        make_authority,
        write_files,
    )

    os.makedirs(found.dir, DIRECTORY_MODE, exist_ok=True)
    certificate, key = _paths(found.dir, "ca")
    if os.path.exists(key):
        raise ValueError(f"{key} is there already: an authority that is in use is not replaced")
    made = make_authority(found.common_name, datetime.now(UTC), found.years * YEAR)
    write_files([(key, made.key_pem(), KEY_MODE), (certificate, made.certificate_pem(), CERT_MODE)])
    sys.stdout.write(f"made the authority {certificate}; keep {key} where no member can read it\n")


def _issue(found: argparse.Namespace) -> None:
    from etcdtw.tls.pki import CERT_MODE, KEY_MODE, issue, write_files

    hosts = [each.strip() for each in found.hosts.split(",") if each.strip()]
    if not hosts and found.kind != "client":
        raise ValueError(f"--hosts is needed: nobody could call {found.name} by any name")
    certificate, key = _paths(found.dir, found.name)
    made = issue(
        _authority(found.dir),
        found.common_name or found.name,
        hosts,
        found.kind,
        datetime.now(UTC),
        timedelta(hours=found.hours),
    )
    write_files([(key, made.key_pem(), KEY_MODE), (certificate, made.certificate_pem(), CERT_MODE)])
    sys.stdout.write(f"made {certificate} and {key}\n")


def _revoke(found: argparse.Namespace) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from etcdtw.tls.material import load_certificates
    from etcdtw.tls.pki import CERT_MODE, revoke, write_files

    authority = _authority(found.dir)
    gone = [load_certificates(_paths(found.dir, name)[0])[0].serial_number for name in found.names]
    path = os.path.join(found.dir, "crl.pem")
    if os.path.exists(path):
        with open(path, "rb") as file:
            gone += [each.serial_number for each in x509.load_pem_x509_crl(file.read())]
    made = revoke(authority, dict.fromkeys(gone), datetime.now(UTC))
    write_files([(path, made.public_bytes(Encoding.PEM), CERT_MODE)])
    sys.stdout.write(f"{path} lists {len(set(gone))} revoked certificates\n")


def _authority(directory: str) -> Any:
    from etcdtw.tls.material import load_pair
    from etcdtw.tls.pki import MadePair

    pair = load_pair(*_paths(directory, "ca"))
    return MadePair(pair.key, pair.chain[0])


def _paths(directory: str, name: str) -> tuple[str, str]:
    return os.path.join(directory, f"{name}.crt"), os.path.join(directory, f"{name}.key")


def _explain(found: argparse.Namespace) -> None:
    from OpenSSL import SSL

    from etcdtw.tls.contexts import FileContexts
    from etcdtw.tls.interfaces import TLSSettings
    from etcdtw.tls.names import issuer, subject
    from etcdtw.tls.verdict import names, usages

    address = parse_endpoint(found.endpoint)

    class Protocol:
        verdict: Any = None

    settings = TLSSettings(
        side="client",
        cert_file=os.path.abspath(found.cert) if found.cert else "",
        key_file=os.path.abspath(found.key) if found.key else "",
        trusted_ca_file=os.path.abspath(found.cacert) if found.cacert else "",
    )
    protocol = Protocol()
    contexts = FileContexts(settings, None, _no_lookups)
    connection = contexts.call_connection(protocol, address.host)
    judge = protocol.verdict
    # Whatever the verdict is, the rest is of interest too.
    connection.set_verify(SSL.VERIFY_PEER, lambda *shown: judge.verify(*shown) or True)
    with socket.create_connection((address.host, address.port), _CONNECT_SECONDS) as plain:
        fault = ""
        try:
            fault = _shake_hands(connection, plain)
        except SSL.Error as error:
            fault = contexts.explain(Protocol(), error)
        shown = connection.get_peer_certificate(as_cryptography=True)
        lines = [f"{found.endpoint}: no certificate was shown"]
        if shown is not None:
            lines = [
                f"subject: {subject(shown).rfc4514_string() or '(empty)'}",
                f"for:     {names(shown) or 'no host at all'}",
                f"issuer:  {issuer(shown).rfc4514_string()}",
                f"valid:   {shown.not_valid_before_utc:%Y-%m-%d %H:%M} to "
                f"{shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                f"usages:  {usages(shown)}",
                f"spoken:  {connection.get_protocol_version_name()}, "
                f"{connection.get_cipher_name()}",
            ]
        lines.append(f"verdict: {judge.reason or 'the certificate is good'}")
        if fault:
            lines.append(f"refused: {fault}")
        sys.stdout.write("\n".join(lines) + "\n")
    if judge.reason or fault:
        raise ValueError("a client that checks would not be served")


def _shake_hands(connection: Any, plain: socket.socket) -> str:
    """Over a blocking socket, to where a refusal of our own certificate has come back too."""
    from OpenSSL import SSL

    connection.set_connect_state()
    deadline_passed = False
    asked = False
    while True:
        try:
            if not asked:
                connection.do_handshake()
                asked = True
                # HTTP/2's preface: whoever accepted us answers it, whoever did not says so.
                connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            else:
                connection.recv(1)
                return ""
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            return ""
        try:
            plain.sendall(connection.bio_read(1 << 16))
        except SSL.WantReadError:
            if deadline_passed:
                return "" if asked else "no answer"
        try:
            received = plain.recv(1 << 16)
        except TimeoutError:
            deadline_passed = True
            continue
        if not received:
            return "" if asked else "the connection was closed"
        connection.bio_write(received)


def _no_lookups() -> Any:
    raise AssertionError("only callers' addresses are looked up")
