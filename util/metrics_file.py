"""metrics.csv of a training run: what --eval_freq has measured, a line for each evaluation."""

import csv
import io
from pathlib import Path

from util.files import write_atomically

POSITION = ("epoch", "seen", "images")  # epochs and images of the run that were done; images that were measured


class MetricsFile:
    """Lines of a run, those of an earlier part of it included."""

    def __init__(self, path: Path, seen: int) -> None:
        """Goes on at `seen` images: lines of later ones, which are void, go when the next is added."""
        self.path = path
        self._lines = [line for line in _read(path) if line["seen"] <= seen]

    def add(self, epoch: int, seen: int, images: int, values: dict[str, float]) -> None:
        """One more line; a value that was not measured stays empty.

        Raises:
            UserError: the disk is full or the folder is not writable; the file is as it was.
        """
        position = dict(zip(POSITION, (epoch, seen, images), strict=True))
        self._lines = [line for line in self._lines if line["seen"] < seen]
        self._lines.append({**position, **values})
        columns = list(dict.fromkeys(name for line in self._lines for name in line))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v if k in POSITION else f"{v:.8g}" for k, v in line.items()} for line in self._lines)
        write_atomically(self.path, text.getvalue().encode())

    def history(self) -> list[tuple[int, dict[str, float]]]:
        """Images seen, and the values by name, of each line."""
        return [(line["seen"], {k: v for k, v in line.items() if k not in POSITION}) for line in self._lines]


def _read(path: Path) -> list[dict[str, float]]:
    """The lines of a file up to the first that is none of ours."""
    lines: list[dict[str, float]] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values = {k: float(v) for k, v in row.items() if k not in POSITION and v}
                lines.append({name: int(row[name]) for name in POSITION} | values)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return lines  # there is none, or somebody has written into it
    return lines
