"""What settings of TLS must be like, before any file is opened."""

from __future__ import annotations

from etcdtw.errors import ConfigError
from etcdtw.tls.ciphers import check_versions, openssl_suites
from etcdtw.tls.interfaces import TLSSettings

_FLAGS_OF_CLIENTS = {
    "crl_file": "client-crl-file",
    "allowed_hostname": "client-cert-allowed-hostname",
}
_FLAGS_OF_PEERS = {
    "allowed_cn": "peer-cert-allowed-cn",
    "allowed_hostname": "peer-cert-allowed-hostname",
}


def flag(settings: TLSSettings, field: str) -> str:
    """The flag that a field of one side's settings comes from."""
    plain = field.replace("_", "-")
    if settings.side == "peer":
        return _FLAGS_OF_PEERS.get(field, f"peer-{plain}")
    return _FLAGS_OF_CLIENTS.get(field, plain)


def check_settings(settings: TLSSettings) -> None:
    """ConfigError, in etcd's words, for settings that do not go together."""

    def refuse(field: str, reason: str) -> ConfigError:
        return ConfigError(flag(settings, field), "flags", reason)

    if bool(settings.cert_file) != bool(settings.key_file):
        raise refuse(
            "key_file" if settings.cert_file else "cert_file",
            "KeyFile and CertFile must both be present"
            f"[key: {settings.key_file}, cert: {settings.cert_file}]",
        )
    if bool(settings.client_cert_file) != bool(settings.client_key_file):
        raise refuse(
            "client_key_file" if settings.client_cert_file else "client_cert_file",
            "ClientKeyFile and ClientCertFile must both be present or both absent: "
            f"key: {settings.client_key_file}, cert: {settings.client_cert_file}]",
        )
    if settings.allowed_cn and settings.allowed_hostname:
        raise refuse(
            "allowed_cn",
            "AllowedCN and AllowedHostname are mutually exclusive "
            f'(cn="{",".join(settings.allowed_cn)}", '
            f'hostname="{",".join(settings.allowed_hostname)}")',
        )
    try:
        openssl_suites(settings.cipher_suites)
    except ValueError as error:
        raise ConfigError("cipher-suites", "flags", str(error)) from None
    try:
        check_versions(settings.min_version, settings.max_version, settings.cipher_suites)
    except ValueError as error:
        raise ConfigError("tls-min-version", "flags", str(error)) from None
