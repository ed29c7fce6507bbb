"""Tests of etcdtw.rpc."""
