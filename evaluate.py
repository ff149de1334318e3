"""Measure synthesised images: python evaluate.py --name NAME --dataroot FOLDER ..., or --synthesized FOLDER ...

Other commands: python evaluate.py train-segmenter ..., compare ..., study ..., study-results ...
"""

import importlib
import sys

from evaluation.options import EvaluateOptions
from evaluation.run import evaluate
from util.distributed import processes, said_by_the_first
from util.errors import UserError, run_main

COMMANDS = {
    "train-segmenter": "evaluation.train_segmenter",
    "compare": "evaluation.compare",
    "study": "evaluation.study.page",
    "study-results": "evaluation.study.results",
}


def main(argv: list[str] | None = None) -> None:
    """Print the numbers, and write them with a page into the results' folder.

    Raises:
        UserError: something the user can mend; the message says what.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv and not argv[0].startswith("-"):
        if argv[0] not in COMMANDS:
            raise UserError(f"evaluate.py has no command {argv[0]}; it has {', '.join(COMMANDS)}, or flags alone")
        importlib.import_module(COMMANDS[argv[0]]).main(argv[1:])
        return
    with said_by_the_first():
        opt = EvaluateOptions().parse(argv)
    with processes(opt.gpu_ids, opt.process_timeout):
        evaluate(opt)


if __name__ == "__main__":
    run_main(main)
