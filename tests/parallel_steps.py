"""Run by several processes at once: some iterations of each case, in float64, which rank 0 writes down."""

import json
import sys
from typing import Any

import torch

from data import create_dataloader
from options.train_options import TrainOptions
from tests.deterministic import fill
from trainers import create_trainer
from util.distributed import COLLECTIVES, gather, processes, rank
from util.iter_counter import IterationCounter


def steps(argv: list[str], iterations: int) -> dict[str, Any]:
    """Losses and collectives of each iteration, and the weights after the last."""
    opt = TrainOptions(raises=True).parse(argv)
    loader, trainer = create_dataloader(opt), create_trainer(opt)
    for net in trainer.model.double().networks().values():
        fill(net)
    counter, losses, collectives = IterationCounter(opt, len(loader.dataset)), [], []
    for batch in (batch for _ in counter.epochs() for batch in counter.batches(loader)):
        before = COLLECTIVES.copy()
        losses.append({name: loss.item() for name, loss in trainer.step(batch).items()})
        collectives.append({name: COLLECTIVES[name] - before[name] for name in ("calls", "bytes")})
        if len(losses) == iterations:
            break
    weights = {
        f"{letter}.{key}": value
        for letter, net in trainer.model.networks().items()
        for key, value in net.state_dict().items()
    }
    digests = gather([value.double().sum().item() for value in weights.values()], everywhere=True)
    assert all(digest == digests[0] for digest in digests), "processes hold different weights"
    return {"losses": losses, "weights": weights, "collectives": collectives}


def main() -> None:
    out, iterations, cases = sys.argv[1:]
    with processes([], timeout=60):
        torch.set_num_threads(1)
        made = {name: steps(argv, int(iterations)) for name, argv in json.loads(cases).items()}
        if rank() == 0:
            torch.save(made, out)


if __name__ == "__main__":
    main()
