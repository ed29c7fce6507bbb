"""Tests of the source itself: layers, names, generated code, documentation."""
