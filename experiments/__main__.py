"""Every experiment under one command: python -m experiments NAME [FLAGS]; --help after a name says what it does."""

from util.subcommands import run_named

NAMES = {
    "labelmefacade": "train, evaluate and test on LabelMeFacade, run by run; a record of each",
    "pictures": "sheets of what these runs synthesise",
    "tables": "what such records say: tables and curves",
    "streets": "layouts drawn by a program, for models of LabelMeFacade",
    "sheet": "pictures of folders in one picture",
    "styles": "what images take over from the photos whose styles they have",
    "overfitting": "whether discriminators know their training photos by heart",
    "spectrum": "where images have more or less power than photos: checkerboards, blur; and colours that are off",
}

if __name__ == "__main__":
    run_named("experiments", "experiment", NAMES)
