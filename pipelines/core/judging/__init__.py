"""Judging: scores, intervals, gates, diagnoses, budgets, cards; all of it arithmetic on what was measured."""
