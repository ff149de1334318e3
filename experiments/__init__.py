"""Trainings whose numbers are in docs/results.md, to be repeated by anyone."""
