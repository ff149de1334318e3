"""metrics.csv of a training run: what --eval_freq has measured, a line for each evaluation."""

import csv
import io
from pathlib import Path
from typing import Any

from util.files import write_atomically

POSITION = ("epoch", "seen", "images")  # epochs and images of the run that were done; images that were measured
MEASURED_WITH = "measured_with"  # a digest of what else the values depend on: those of others cannot be compared


class MetricsFile:
    """Lines of a run, those of an earlier part of it included."""

    def __init__(self, path: Path, seen: int) -> None:
        """Goes on at `seen` images: lines of later ones, which are void, go when the next is added."""
        self.path = path
        self._lines = [line for line in _read(path) if line["seen"] <= seen]

    def add(self, epoch: int, seen: int, images: int, values: dict[str, float], measured_with: str = "") -> None:
        """One more line; a value that was not measured stays empty.

        Raises:
            UserError: the disk is full or the folder is not writable; the file is as it was.
        """
        position = dict(zip(POSITION, (epoch, seen, images), strict=True))
        self._lines = [line for line in self._lines if line["seen"] < seen]
        self._lines.append({**position, MEASURED_WITH: measured_with, **values})
        columns = list(dict.fromkeys(name for line in self._lines for name in line))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.8g}" if isinstance(v, float) else v for k, v in line.items()} for line in self._lines
        )
        write_atomically(self.path, text.getvalue().encode())

    def history(self) -> list[tuple[int, dict[str, float]]]:
        """Images seen, and the values by name, of each line that was measured as the last was."""
        alike = [line for line in self._lines if line[MEASURED_WITH] == self._lines[-1][MEASURED_WITH]]
        other = (*POSITION, MEASURED_WITH)
        return [(line["seen"], {k: v for k, v in line.items() if k not in other}) for line in alike]

    def remove(self) -> None:
        """Delete the file: its lines are another run's."""
        self._lines = []
        self.path.unlink(missing_ok=True)


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file up to the first that is none of ours."""
    lines: list[dict[str, Any]] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                position = {name: int(row.pop(name)) for name in POSITION} | {MEASURED_WITH: row.pop(MEASURED_WITH)}
                lines.append(position | {k: float(v) for k, v in row.items() if v})
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return lines  # there is none, or somebody has written into it
    return lines
