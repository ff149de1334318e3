"""Every benchmark under one command: python -m benchmarks NAME [FLAGS]; --help after a name says what it measures.

Each prints all sides of a comparison, measured in turns in one process.
"""

from util.subcommands import run_named

NAMES = {
    "generator": "a generator's forward pass: plain, best plain, by patterns, and convolutions alone",
    "training": "a training iteration: the same",
    "scaling": "how the generator's cost grows with size, classes, complexity of layouts and batch",
    "processes": "what several processes cost, measured here and predicted for other links",
    "synthesis": "test.py as a whole",
    "evaluation": "segmenters, Inception, confusion matrix and Frechet distance",
    "loader": "items and batches a second",
    "million": "starting with a million files: time, and memory of loader processes",
    "shards": "loader throughput of tar shards and of loose files",
    "sharing": "a training iteration on a CPU that others use too",
    "memory": "memory of a training iteration, predicted",
    "cost": "arithmetic and bytes of a training iteration, and the time of GPUs, predicted",
    "viewer": "web pages of large galleries, in headless Chromium",
}

if __name__ == "__main__":
    run_named("benchmarks", "benchmark", NAMES)
