"""Judging: scores, forgetting, reward diagnostics."""
