"""Tests of the LMDB backend."""
