"""What a member is started with: one frozen record, built from the flag table or by hand.

A field is a flag's name with underscores. Durations are seconds as ``float``, except where etcd's
flag itself counts milliseconds (``heartbeat_interval``, ``election_timeout``, ``proxy_*``). URL
lists are sorted tuples of texts. ``data_dir`` and ``wal_dir`` are absolute; an empty ``wal_dir``
means ``member/wal`` inside the data directory.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass

from etcdtw.bootstrap.interfaces import BootstrapSettings, DiscoverySettings
from etcdtw.config.kinds import MESH

AutoTls = bool | str
"""``mesh``, or whether there are automatic certificates that prove nothing."""
InitialCluster = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MemberSettings:
    """Every setting of one member; ``etcdtw.config.load.member_settings`` fills in defaults."""

    # Member
    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    heartbeat_interval: int
    election_timeout: int
    initial_election_tick_advance: bool
    listen_peer_urls: tuple[str, ...]
    listen_client_urls: tuple[str, ...]
    listen_client_http_urls: tuple[str, ...]
    max_snapshots: int
    max_wals: int
    quota_backend_bytes: int
    backend_bbolt_freelist_type: str
    backend_batch_interval: float
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    enable_grpc_gateway: bool
    grpc_keepalive_min_time: float
    grpc_keepalive_interval: float
    grpc_keepalive_timeout: float
    socket_reuse_port: bool
    socket_reuse_address: bool
    raft_read_timeout: float
    raft_write_timeout: float

    # Clustering
    initial_advertise_peer_urls: tuple[str, ...]
    initial_cluster: InitialCluster
    initial_cluster_state: str
    initial_cluster_token: str
    advertise_client_urls: tuple[str, ...]
    discovery: str
    discovery_token: str
    discovery_endpoints: tuple[str, ...]
    discovery_dial_timeout: float
    discovery_request_timeout: float
    discovery_keepalive_time: float
    discovery_keepalive_timeout: float
    discovery_insecure_transport: bool
    discovery_insecure_skip_tls_verify: bool
    discovery_cert: str
    discovery_key: str
    discovery_cacert: str
    discovery_user: str
    discovery_password: str
    discovery_fallback: str
    discovery_proxy: str
    discovery_srv: str
    discovery_srv_name: str
    strict_reconfig_check: bool
    pre_vote: bool
    auto_compaction_retention: float
    """Seconds in periodic mode, a number of revisions in revision mode; 0 is off."""
    auto_compaction_mode: str
    enable_v2: bool
    v2_deprecation: str

    # Security
    cert_file: str
    key_file: str
    client_cert_auth: bool
    client_cert_file: str
    client_key_file: str
    client_crl_file: str
    client_cert_allowed_hostname: tuple[str, ...]
    trusted_ca_file: str
    ca_file: str
    auto_tls: AutoTls
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_auth: bool
    peer_trusted_ca_file: str
    peer_ca_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_auto_tls: AutoTls
    peer_client_cert_file: str
    peer_client_key_file: str
    self_signed_cert_validity: int
    peer_crl_file: str
    cipher_suites: tuple[str, ...]
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str

    # Auth
    auth_token: str
    bcrypt_cost: int
    auth_token_ttl: int

    # Profiling and monitoring
    enable_pprof: bool
    metrics: str
    listen_metrics_urls: tuple[str, ...]

    # Logging
    logger: str
    log_outputs: tuple[str, ...]
    log_level: str
    enable_log_rotation: bool
    log_rotation_config_json: str

    # Distributed tracing
    experimental_enable_distributed_tracing: bool
    experimental_distributed_tracing_address: str
    experimental_distributed_tracing_service_name: str
    experimental_distributed_tracing_instance_id: str
    experimental_distributed_tracing_sampling_rate: int

    # v2 proxy
    proxy: str
    proxy_failure_wait: int
    proxy_refresh_interval: int
    proxy_dial_timeout: int
    proxy_write_timeout: int
    proxy_read_timeout: int

    # Experimental
    experimental_initial_corrupt_check: bool
    experimental_corrupt_check_time: float
    experimental_compact_hash_check_enabled: bool
    experimental_compact_hash_check_time: float
    experimental_enable_v2v3: str
    experimental_enable_lease_checkpoint: bool
    experimental_enable_lease_checkpoint_persist: bool
    experimental_compaction_batch_limit: int
    experimental_compaction_sleep_interval: float
    experimental_peer_skip_client_san_verification: bool
    experimental_watch_progress_notify_interval: float
    experimental_downgrade_check_time: float
    experimental_memory_mlock: bool
    experimental_warning_apply_duration: float
    experimental_txn_mode_write_with_shared_buffer: bool
    experimental_bootstrap_defrag_threshold_megabytes: int
    experimental_stop_grpc_service_on_defrag: bool
    experimental_snapshot_catchup_entries: int

    # Unsafe
    force_new_cluster: bool
    unsafe_no_fsync: bool

    # Only here
    strict_bind: bool
    strict_environment: bool
    log_package_levels: str
    adopt: bool
    bootstrap_provider: str
    bootstrap_timeout: float
    bootstrap_expect: int
    tls_provider: str
    dns_server: tuple[str, ...]
    max_cluster_version: str

    @property
    def wal_path(self) -> str:
        """The directory that holds the write-ahead log."""
        return self.wal_dir or os.path.join(self.data_dir, "member", "wal")

    @property
    def snap_path(self) -> str:
        """The directory that holds snapshots and the keyspace."""
        return os.path.join(self.data_dir, "member", "snap")

    @property
    def client_mesh(self) -> bool:
        """Whether the client port is secured by the cluster's own authority."""
        return self.auto_tls == MESH and not (self.cert_file or self.key_file)

    @property
    def peer_mesh(self) -> bool:
        """Whether peers are known by the cluster's own authority."""
        return self.peer_auto_tls == MESH and not (self.peer_cert_file or self.peer_key_file)

    def bootstrap(self) -> BootstrapSettings:
        """The part that the bootstrap providers read."""
        return BootstrapSettings(
            name=self.name,
            peer_urls=self.initial_advertise_peer_urls,
            initial_cluster=self.initial_cluster,
            initial_cluster_state=self.initial_cluster_state,
            initial_cluster_token=self.initial_cluster_token,
            discovery=self.discovery,
            discovery_v3=DiscoverySettings(
                token=self.discovery_token,
                endpoints=self.discovery_endpoints,
                dial_timeout=self.discovery_dial_timeout,
                request_timeout=self.discovery_request_timeout,
                keepalive_time=self.discovery_keepalive_time,
                keepalive_timeout=self.discovery_keepalive_timeout,
                insecure_transport=self.discovery_insecure_transport,
                insecure_skip_tls_verify=self.discovery_insecure_skip_tls_verify,
                cert=self.discovery_cert,
                key=self.discovery_key,
                cacert=self.discovery_cacert,
                user=self.discovery_user,
                password=self.discovery_password,
            ),
            discovery_proxy=self.discovery_proxy,
            discovery_fallback=self.discovery_fallback,
            discovery_srv=self.discovery_srv,
            discovery_srv_name=self.discovery_srv_name,
            has_authority=bool(self.peer_trusted_ca_file or self.peer_ca_file or self.peer_mesh),
            provider=self.bootstrap_provider.partition(":")[0],
            provider_argument=self.bootstrap_provider.partition(":")[2],
            timeout_seconds=self.bootstrap_timeout,
            expected_size=self.bootstrap_expect,
            data_dir=self.data_dir,
        )
