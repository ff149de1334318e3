"""How threads on a CPU wait for each other, which OpenMP reads once: to be imported before PyTorch is.

By itself OpenMP's threads wait by running in circles, milliseconds long. Where another program has a core, all others
burn theirs until it gives one of them back, hundreds of times in each step.
"""

import os
from collections.abc import MutableMapping

CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
ASLEEP = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}  # GNU's after a thousand rounds, microseconds


def wait_asleep(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait sleep after a moment, unless the environment says how they wait."""
    if not any(name in environment for name in CHOICES):
        environment.update(ASLEEP)


wait_asleep(os.environ)
