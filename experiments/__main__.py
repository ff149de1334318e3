"""Every experiment under one command: python -m experiments NAME [FLAGS]; --help after a name says what it does."""

from util.errors import run_main
from util.subcommands import run_named

NAMES = {
    "labelmefacade": "train, evaluate and test on LabelMeFacade, run by run; a record of each",
    "pictures": "sheets of what these runs synthesise",
    "tables": "what such records say: tables and curves",
    "streets": "layouts drawn by a program, for models of LabelMeFacade",
    "sheet": "pictures of folders in one picture",
}


def main() -> None:
    """Run the experiment that the command line names.

    Raises:
        UserError: there is no such experiment.
    """
    run_named("experiments", "experiment", NAMES)


if __name__ == "__main__":
    run_main(main)
