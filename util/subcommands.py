"""One command in front of several: python -m PACKAGE NAME [FLAGS]."""

import importlib
import sys
from collections.abc import Mapping

from util.errors import UserError, run_main


def run_named(package: str, what: str, names: Mapping[str, str]) -> None:
    """Be the script that runs the `main` of the module that the command line names, or lists all of them.

    Args:
        package: where the modules are.
        what: what a message calls one of them.
        names: modules, and a line on each.
    """
    run_main(lambda: _run(package, what, names))


def _run(package: str, what: str, names: Mapping[str, str]) -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(f"python -m {package} NAME [FLAGS]\n")
        width = max(map(len, names))
        for name, text in names.items():
            print(f"  {name:{width}}  {text}")
        return
    name = sys.argv[1]
    if name not in names:
        raise UserError(f"there is no {what} {name}; there are {', '.join(names)}")
    module = importlib.import_module(f"{package}.{name}")
    del sys.argv[1]
    module.main()
