"""Tests of etcdtw.http2."""
