"""Metrics for the library `evaluate`, one file each, loaded by their path so that no code is ever fetched."""
