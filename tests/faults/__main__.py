"""Every kind of fault under one command: python -m tests.faults NAME [FLAGS]; --help after a name says what it does."""

from util.subcommands import run_named

NAMES = {
    "killed": "training that is killed at random moments, by one and by two processes",
    "full_disk": "disks that fill up while a checkpoint is saved",
    "corrupted": "every file of a checkpoint, damaged in four ways",
    "damaged": "images and layouts that are damaged, of the wrong kind or hostile, through training's loader",
}

if __name__ == "__main__":
    run_named("tests.faults", "kind of fault", NAMES)
