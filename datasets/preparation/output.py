"""The folder that a command fills: what it was made with, files that are whole or not there, and what to do next."""

import argparse
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.workers import cores
from datasets.preparation.archives import Archive, Source
from options.flags import add_switch, command_parser, positive
from util import locks
from util.errors import UserError, first_few
from util.files import beside, put, write_atomically

NOTE_NAME, FAILURES_NAME = "prepared.json", "not_prepared.txt"
FORMAT = 1
SHOWN = 3  # failures that a message has; the file has all
WIDTH = 100  # characters of a line of a command


def preparation_parser(prog: str, text: str, out: str | None = None, official: bool = True) -> argparse.ArgumentParser:
    """The parser of a command that prepares a data set.

    Args:
        text: the module's docstring.
        out: the default of --out; None: it must be given.
        official: the data set is one that is downloaded, so that there are --downloads, --link and --partial.
    """
    parser = command_parser(prog, text)
    shown = " (default: %(default)s)" if out else ""
    parser.add_argument("--out", default=out, required=out is None, metavar="DIR", help=f"folder to fill{shown}")
    parser.add_argument(
        "--workers", type=positive, default=cores(), metavar="N", help="processes (default: one for each core)"
    )
    if official:
        parser.add_argument(
            "--downloads", required=True, metavar="DIR", help="folder of the archives, or of what they unpack to"
        )
        add_switch(parser, "--link", "link photos of unpacked archives instead of copying them")
        add_switch(
            parser, "--partial", "take what is whole where images or their maps are missing, instead of refusing"
        )
    return parser


@dataclass(frozen=True)
class Output:
    """The folder."""

    folder: Path
    command: str
    made_with: dict[str, Any]

    @classmethod
    def begin(cls, out: str, command: str, made_with: Mapping[str, Any], sources: Sequence[Source] = ()) -> "Output":
        """Take a new or empty folder, or one that the same command with the same flags has begun or finished.

        Args:
            command: the script's name.
            made_with: the flags that decide what is written, as JSON has them.
            sources: where files come from; archives are known by name and by which files are in them.

        Raises:
            UserError: the folder holds something else, was made with other flags or archives, lies in the originals, or
                another process fills it.
        """
        check_outside(out, sources)
        archives = {s.path.name: s.key for s in sources if isinstance(s, Archive)}
        output = cls(Path(out), command, {**made_with, "archives": archives})
        _take(output.folder)
        try:
            note = output._read_note()
            output._refuse_another(note)
        except UserError:
            locks.leave(output.folder)
            raise
        if note is None:
            output._write_note({})
        else:
            output.made_with["archives"] = {**note["made_with"]["archives"], **archives}
        return output

    def _refuse_another(self, note: Mapping[str, Any] | None) -> None:
        if note is None:
            there = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
            there = [name for name in there if name not in (beside(Path(NOTE_NAME)).name, locks.NAME)]
            if there:
                raise UserError(
                    f"{self.folder} holds files that this command did not make ({first_few(there)}); give a new folder"
                )
            return
        if note["command"] != self.command:
            raise UserError(f"{self.folder} was made by {note['command']}; give a new folder")
        before, now = ({**made_with} for made_with in (note["made_with"], self.made_with))
        archives, others = before.pop("archives"), now.pop("archives")
        others_now = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        differs = [
            # What a digest is does not matter to people.
            f"another {name}" if name.endswith("content") else f"{name} {before.get(name)!r}, not {now.get(name)!r}"
            for name in others_now
        ]
        # One that has been unpacked since, or is of a part that was not asked for, is no other.
        differs += [f"another {name}" for name in sorted({*archives} & {*others}) if archives[name] != others[name]]
        if differs:
            raise UserError(f"{self.folder} was made with {'; '.join(differs)}: give a new folder, or delete that one")

    def _read_note(self) -> dict[str, Any] | None:
        path = self.folder / NOTE_NAME
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            kept = (note["made_with"]["archives"], note["images"])
            if note["format"] != FORMAT or "command" not in note or not all(isinstance(part, dict) for part in kept):
                raise ValueError("it is of another format")
            return note
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}); give a new folder, or delete that one") from None

    def _write_note(self, images: Mapping[str, int]) -> None:
        content = {"format": FORMAT, "command": self.command, "made_with": self.made_with, "images": images}
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        write_atomically(self.folder / NOTE_NAME, text.encode())

    def missing(self, names: Sequence[str]) -> bool:
        """Whether any of the files, below the folder, is not there yet, or empty, as after a power failure."""
        return not all(is_there(self.folder / name) for name in names)

    def finish(self, images: Mapping[str, int], failures: Sequence[str] = (), others: Sequence[str] = ()) -> None:
        """Write down that all is there, and let other processes into the folder.

        Args:
            images: how many there are, by part.
            failures: a line on each file that could not be prepared.
            others: parts that were not asked for this time; lines that begin with their names and a colon stay in the
                file of failures.

        Raises:
            UserError: there are failures; the message has the first, and a file all of them.
        """
        try:
            self._finish(images, failures, others)
        finally:
            locks.leave(self.folder)

    def _finish(self, images: Mapping[str, int], failures: Sequence[str], others: Sequence[str]) -> None:
        if os.name == "posix":
            os.sync()  # the files were not brought to the disk one by one
        path = self.folder / FAILURES_NAME
        before = path.read_text("utf-8", "surrogateescape").split("\n") if path.exists() else []
        lines = [line for line in before if line.startswith(tuple(f"{part}: " for part in others))] + [*failures]
        if lines:
            write_atomically(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        else:
            path.unlink(missing_ok=True)
        if failures:
            more = f"; {path} has all" if len(failures) > SHOWN else ""
            raise UserError(
                f"{len(failures):,} could not be prepared: {'; '.join(failures[:SHOWN])}{more}. All else is in "
                f"{self.folder}: replace what is damaged and give the same command again, which does what is left"
            )
        note = self._read_note() or {"images": {}}
        self._write_note({**note["images"], **images})  # parts may be made one after the other


def refuse_another(out: str, command: str, made_with: Mapping[str, Any], sources: Sequence[Source] = ()) -> None:
    """Refuse, before work that takes long, a folder that `Output.begin` will refuse; nothing is made.

    Raises:
        UserError: as there.
    """
    if Path(out).is_dir() and any(Path(out).iterdir()):
        Output.begin(out, command, made_with, sources)


def _take(folder: Path) -> None:
    """Keep other processes out of the folder.

    Raises:
        UserError: another is in it.
    """
    if not locks.take(folder):
        raise UserError(f"{folder} is being filled by {locks.holder(folder)}; wait until it is done, or end it")


def check_outside(out: str, sources: Sequence[Source]) -> None:
    """Refuse a folder for the output that is inside the originals.

    Raises:
        UserError: it is.
    """
    for source in sources:
        if Path(out).resolve().is_relative_to(source.path.resolve()):
            raise UserError(f"{out} is inside {source.path}, where originals are; give a folder elsewhere")


def is_there(path: Path) -> bool:
    """Whether there is a file, or a link to one, that is not empty, as after a power failure."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def copy(source: Source, name: str, path: Path, link: bool = False, content: bytes | None = None) -> None:
    """Bring a file into the folder as it is, byte by byte, or as a link to it.

    Args:
        content: its bytes, if they have been read.

    Raises:
        UserError: it cannot be read, or is empty; or --link is given and it is in an archive.
        OSError: the disk is full or the folder is not writable.
    """
    if not link:
        content = source.read(name) if content is None else content
        if not content:
            raise UserError(f"{source.where(name)} is empty (0 bytes); copy or download it again")
        put(content, path)
        return
    file = source.file(name)
    if file is None:
        raise UserError(f"--link: {source.where(name)} is in an archive; unpack it, or drop the flag")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside(path).unlink(missing_ok=True)
    os.symlink(os.path.abspath(file), beside(path))
    os.replace(beside(path), path)


def check_link(link: bool, photos: Source) -> None:
    """Refuse --link for archives.

    Raises:
        UserError: they are in one.
    """
    if link and isinstance(photos, Archive):
        raise UserError(f"--link: {photos.path} is an archive, which must be unpacked first; do so, or drop the flag")


def check_counts(title: str, found: Mapping[str, int], official: Mapping[str, int], partial: bool) -> None:
    """Compare the numbers of images with those that are published; --partial makes a note of what is an error else.

    Args:
        title: the data set's name.
        found: how many there are, by part; only these parts are compared.

    Raises:
        UserError: there are others than should be, or none.
    """
    wrong = []
    for part, count in found.items():
        missing = official[part] - count
        if missing:
            how = f"{missing:,} missing" if missing > 0 else f"{-missing:,} too many"
            wrong.append(f"{part} images {count:,} of {official[part]:,} ({how})")
    if wrong and not (partial and all(found.values())):
        way_out = "" if partial else ", or pass --partial to take what is there"
        raise UserError(f"{title}: {'; '.join(wrong)}: download what is missing, or keep other files out{way_out}")
    if wrong:
        print(f"note: {title}: {'; '.join(wrong)}")


def say_next(out: Path, images: Mapping[str, int], train_flags: Sequence[str]) -> None:
    """Print how many images there are, and the commands that check and, with a training part, train."""
    counts = " and ".join(f"{count:,} {part}" for part, count in images.items())
    if "train" not in images:  # nothing to train on yet
        print(f"{out} has its images: {counts}")
        return
    print(f"{out} has its images: {counts}; look at them, then train:")
    to_check = _without(list(train_flags), ("--name", "--batchSize"))
    if "--label_dir" in to_check and (out / "val_label").is_dir():
        to_check += ["--val_label_dir", str(out / "val_label"), "--val_image_dir", str(out / "val_img")]
        if (out / "val_inst").is_dir() and "--instance_dir" in to_check:
            to_check += ["--val_instance_dir", str(out / "val_inst")]
    print(shell_command(["python", "datasets/check_dataset.py", *to_check]))
    print(shell_command(["python", "train.py", *train_flags]))


def _without(flags: list[str], names: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in flags:
        if word in names:
            skip = True
        elif skip:
            skip = False
        else:
            kept.append(word)
    return kept


def shell_command(words: Sequence[str]) -> str:
    """A command as one pastes it: quoted, and on several lines where it is long."""
    lines = [" "]
    flags: list[str] = []
    for word in words:  # a flag and its values stay together
        if word.startswith("--") or not flags or len(flags) < 2:
            flags.append(shlex.quote(word))
        else:
            flags[-1] += f" {shlex.quote(word)}"
    for flag in flags:
        if len(lines[-1]) + len(flag) > WIDTH:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {flag}"
    return "\n".join(lines)
