"""Tests of the built-in corpus."""
