"""Every benchmark under one command: python -m benchmarks NAME [FLAGS]; --help after a name says what it measures.

Each prints all sides of a comparison, measured in turns in one process.
"""

import importlib
import sys

from util.errors import UserError, run_main

NAMES = {
    "generator": "a generator's forward pass: plain, best plain, by patterns, and convolutions alone",
    "training": "a training iteration: the same",
    "scaling": "how the generator's cost grows with size, classes, complexity of layouts and batch",
    "processes": "what several processes cost, measured here and predicted for other links",
    "synthesis": "test.py as a whole",
    "loader": "items and batches a second",
    "million": "starting with a million files: time, and memory of loader processes",
    "shards": "loader throughput of tar shards and of loose files",
    "memory": "memory of a training iteration, predicted",
    "viewer": "web pages of large galleries, in headless Chromium",
}


def main() -> None:
    """Run the benchmark that the command line names.

    Raises:
        UserError: there is no such benchmark.
    """
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("python -m benchmarks NAME [FLAGS]\n")
        for name, text in NAMES.items():
            print(f"  {name:10} {text}")
        return
    name = sys.argv[1]
    if name not in NAMES:
        raise UserError(f"there is no benchmark {name}; there are {', '.join(NAMES)}")
    module = importlib.import_module(f"benchmarks.{name}")
    del sys.argv[1]
    module.main()


if __name__ == "__main__":
    run_main(main)
