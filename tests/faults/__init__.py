"""What must not break a run: damaged files, and whatever else goes wrong around it (python -m tests.faults)."""
