"""Tests of the driver and its parts."""
