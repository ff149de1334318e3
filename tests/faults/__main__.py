"""Every kind of fault under one command: python -m tests.faults NAME [FLAGS]; --help after a name says what it does."""

import importlib
import sys

from util.errors import UserError, run_main

NAMES = {
    "killed": "training that is killed at random moments, by one and by two processes",
    "full_disk": "disks that fill up while a checkpoint is saved",
    "corrupted": "every file of a checkpoint, damaged in four ways",
    "damaged": "images and layouts that are damaged, of the wrong kind or hostile, through training's loader",
}


def main() -> None:
    """Try the faults that the command line names.

    Raises:
        UserError: there are none of that name.
    """
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("python -m tests.faults NAME [FLAGS]\n")
        for name, text in NAMES.items():
            print(f"  {name:10} {text}")
        return
    name = sys.argv[1]
    if name not in NAMES:
        raise UserError(f"there are no faults {name}; there are {', '.join(NAMES)}")
    module = importlib.import_module(f"tests.faults.{name}")
    del sys.argv[1]
    module.main()


if __name__ == "__main__":
    run_main(main)
