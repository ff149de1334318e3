"""What check_dataset.py finds: the parts of a data set, all their files looked at, and flags that suit them."""

import collections
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from data import DATASETS, create_dataset
from data.id_rules import MOST, IdRules
from data.inspection import KINDS, Inspection, Problem, inspect
from data.path_table import PathTable
from data.pix2pix_dataset import Paths, Pix2pixDataset
from data.twins import nearest
from data.workers import begin_work, end_work_at_exit
from util.errors import Interrupted, UserError, first_few

CHUNK = 16  # items that a process hands over at a time
NAMES = ("label map", "photo", "instance map")  # in the order of Paths
MOST_CLASSES = 1000  # more ids than that are no classes
RARE = 0.01  # of the label maps
WIDE = 1.2  # width by height, or the reverse, from which a square distorts


@dataclass
class Part:
    """The files of one part of a data set, and what was found in them."""

    name: str  # "training" or "validation"
    dataset: Pix2pixDataset  # of what pairs up
    problems: list[Problem] = field(default_factory=list)
    ways_out: list[str] = field(default_factory=list)  # of problems: a line each
    items: list[Inspection] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, kind: str, text: str, *items: Inspection) -> None:
        """Note a problem, of some of the items if it is not of the part."""
        self.problems.append(Problem(kind, text))
        for item in items:
            item.problems.append(self.problems[-1])

    def photo(self, index: int) -> str:
        """The path of an item's photo, or how shards call it."""
        return self.dataset.path(index)

    def pixels(self) -> dict[int, int]:
        """The pixels of each id in all label maps, ids ascending."""
        if not self.items:
            return {}
        ids, which = np.unique(np.concatenate([item.ids for item in self.items]), return_inverse=True)
        total = np.zeros(len(ids), np.int64)
        np.add.at(total, which, np.concatenate([item.pixels for item in self.items]))
        return dict(zip(ids.tolist(), total.tolist(), strict=True))

    def shares(self) -> dict[int, float]:
        """The ids' shares of all pixels, the largest first."""
        pixels = self.pixels()
        total = sum(pixels.values())
        return {i: pixels[i] / total for i in sorted(pixels, key=lambda i: (-pixels[i], i))}

    def files(self) -> dict[int, int]:
        """In how many label maps each id is."""
        return dict(collections.Counter(int(i) for item in self.items for i in item.ids))


def part_of(opt: Namespace, name: str) -> Part:
    """The files that the options name: those that pair up, and a problem for each that does not.

    Raises:
        UserError: there are no label maps, or no photos to train on.
    """
    kind = DATASETS[opt.dataset_mode]
    if not issubclass(kind, Pix2pixDataset):
        raise UserError(f"--dataset_mode {opt.dataset_mode} has no label maps that could be checked")
    if opt.dataset_mode == "shards":
        return Part(name, create_dataset(opt))
    bare = kind(opt, Paths(PathTable()))
    found = bare.found()
    if not found.labels or (opt.isTrain and not found.images):
        kind(opt)  # which says what is missing
    paths, texts = _paired(bare, found, by_place=opt.no_pairing_check)
    part = Part(name, kind(opt, paths))
    for kind, text in texts:
        part.add(kind, text)
    if len(texts) > 0 and not opt.no_pairing_check:
        part.ways_out.append(
            f"{name}: {_counts(found)} were found, which pair up by their names, without endings; rename them, or pass "
            "--no_pairing_check where they pair up by their order"
        )
    if opt.isTrain and not opt.no_instance and not found.instances and opt.dataset_mode != "custom":
        part.add("unpaired", f"{opt.dataroot} has no instance maps: {bare.instances_from}, or pass --no_instance")
    return part


def _by_kind(found: Paths) -> dict[str, Sequence[str]]:
    of_kinds = zip(NAMES, (found.labels, found.images, found.instances), strict=True)
    return {name: files for name, files in of_kinds if files}


def _counts(found: Paths) -> str:
    return ", ".join(f"{len(files):,} {name}{'s' * (len(files) != 1)}" for name, files in _by_kind(found).items())


def _paired(dataset: Pix2pixDataset, found: Paths, by_place: bool) -> tuple[Paths, list[tuple[str, str]]]:
    """The files that have a counterpart of each kind, and the kind of problem and a line on each of the others."""
    kinds = _by_kind(found)
    texts = []
    if by_place:
        count = min(map(len, kinds.values()))
        texts = [("unpaired", f"{path} has no counterpart") for files in kinds.values() for path in files[count:]]
        return Paths(found.labels[:count], found.images[:count], found.instances[:count]), texts
    by_key: dict[str, dict[str, str]] = {name: {} for name in kinds}
    for name, files in kinds.items():
        for path in files:
            other = by_key[name].setdefault(dataset.pair_key(path), path)
            if other != path:
                text = f"{path} has the name of {other}: which of them belongs to the others is not clear"
                texts.append(("unpaired", text))
    whole = [key for key in by_key["label map"] if all(key in by_key[name] for name in kinds)]
    for name, files in by_key.items():
        for key, path in files.items():
            lacks = [other for other in kinds if key not in by_key[other]]
            if lacks:
                kind = "alone" if name == "photo" and "label map" in lacks and not dataset.opt.isTrain else "unpaired"
                texts.append((kind, f"{path} ({name}) has no {' and no '.join(lacks)} of its name"))
    tables = (PathTable([by_key[name][key] for key in whole] if name in kinds else []) for name in NAMES)
    return Paths(*tables), texts


class _Inspections(Dataset):
    def __init__(self, dataset: Pix2pixDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Inspection:
        return inspect(self._dataset, index)


def look(part: Part, workers: int) -> None:
    """Look at all items of a part, in several processes."""
    items = _Inspections(part.dataset)
    parallel = workers if workers > 1 and len(items) > CHUNK else 0
    if parallel:
        end_work_at_exit()
    loader = DataLoader(items, CHUNK, num_workers=parallel, collate_fn=_as_they_are, worker_init_fn=begin_work)
    begun = time.monotonic()
    with tqdm(total=len(items), unit="item", desc=part.name, disable=None) as bar:
        try:
            for found in loader:
                part.items += found
                bar.update(len(found))
        except RuntimeError as error:
            if not parallel or "DataLoader worker" not in str(error):
                raise
            why = "often for want of memory: fewer --nThreads take less"
            raise Interrupted(f"a process that reads files is gone, {why}") from None
    part.seconds = time.monotonic() - begun
    part.problems += [problem for item in part.items for problem in item.problems]


def _as_they_are(items: list[Inspection]) -> list[Inspection]:
    return items


def compare(parts: Sequence[Part], correlation: float) -> None:
    """Find photos that are there twice, in one part or in both, and those of the validation part that are nearly one
    of the training part."""
    first: dict[bytes, tuple[Part, int]] = {}
    for part in parts:
        for item in part.items:
            if item.photo_digest is None or item.is_blank:  # any two blank ones are alike
                continue
            other, index = first.setdefault(item.photo_digest, (part, item.index))
            if (other, index) != (part, item.index):
                kind = "copy" if other is part else "leak"
                part.add(kind, f"{part.photo(item.index)} has the same pixels as {other.photo(index)}", item)
    if len(parts) == 2:
        _find_twins(*parts, correlation)


def _find_twins(training: Part, validation: Part, correlation: float) -> None:
    known, asked = ([item for item in part.items if item.grey is not None] for part in (training, validation))
    same = {item.photo_digest for item in known}
    asked = [item for item in asked if item.photo_digest not in same]
    if not known or not asked:
        return
    for mine, other, value in nearest([item.grey for item in asked], [item.grey for item in known], correlation):
        text = f"{validation.photo(asked[mine].index)} is nearly {training.photo(known[other].index)}"
        validation.add("twin", f"{text} (correlation {value:.3f})", asked[mine])


# ------------------------------------------------------------------------------------------------------------- flags


def suggested(opt: Namespace, parts: Iterable[Part]) -> list[str]:
    """Flags of train.py that suit a custom data set, as words of a command line; none where ids are wrong."""
    parts = list(parts)
    ids = _all_ids(parts)
    if opt.dataset_mode != "custom" or not 0 < len(ids) <= MOST_CLASSES or not 0 <= ids[0] <= ids[-1] < MOST:
        return []
    if _is_mask(ids) or any(problem.kind == "ids" for part in parts for problem in part.problems):
        return []
    unknown = _unknown_among(ids, opt)
    classes = [i for i in ids if i != unknown]
    flags = ["--label_nc", str(max(classes, default=0) + 1)]
    if unknown is not None:
        flags.append("--contain_dontcare_label")
        if unknown != 255 or max(classes, default=0) >= 255:
            flags += ["--unknown_id", str(unknown)]
    if not parts[0].dataset.paths.instances:
        flags.append("--no_instance")
    return flags


def _all_ids(parts: Iterable[Part]) -> list[int]:
    """The ids of all label maps, ascending."""
    return sorted({i for part in parts for i in part.pixels()})


def _is_mask(ids: Sequence[int]) -> bool:
    """Whether label maps hold 255 and one other id at most, as black and white pictures do."""
    return ids[-1:] == [255] and len(ids) < 3


def _unknown_among(ids: Sequence[int], opt: Namespace) -> int | None:
    """The id that means unknown: the one that was typed, or 255 beside much smaller ones."""
    if opt.contain_dontcare_label and opt.unknown_id in ids:
        return opt.unknown_id
    below = [i for i in ids if i < 255]
    alone = ids[-1] == 255 and (not below or below[-1] < 254)
    return 255 if alone else None


def advice(opt: Namespace, parts: Iterable[Part]) -> list[str]:
    """What else to think of in training on one's own pictures, a line each."""
    parts = list(parts)
    sizes = [item.photo_size or item.size for part in parts for item in part.items]
    sizes = np.array([size for size in sizes if size], float)  # [items, 2]: width, height
    if opt.dataset_mode != "custom" or not len(sizes):
        return []
    lines = list(_advice_on_ids(opt, parts))
    shape = float(np.median(sizes[:, 0] / sizes[:, 1]))
    if opt.preprocess_mode == "resize_and_crop" and not opt.crop_height and not 1 / WIDE < shape < WIDE:
        lines.append(
            f"most pictures are {shape:.2f} times as wide as high, and --preprocess_mode resize_and_crop makes them "
            "square: --preprocess_mode scale_shortside_and_crop keeps their shape"
        )
    small = int((sizes.min(1) < opt.crop_size).sum())
    if small:
        lines.append(
            f"{small:,} of {len(sizes):,} pictures are smaller than --crop_size {opt.crop_size} (the smallest side has "
            f"{int(sizes.min())} pixels): they are enlarged, or filled up with black"
        )
    return lines


def _advice_on_ids(opt: Namespace, parts: Sequence[Part]) -> Iterator[str]:
    ids = _all_ids(parts)
    if not 0 < len(ids) <= MOST_CLASSES or ids[0] < 0:
        return
    if _is_mask(ids) and not (opt.contain_dontcare_label and opt.unknown_id == 255):
        yield (
            "label maps hold 255 and one other id at most, as masks do: if 255 is a class, datasets/prepare_custom.py "
            "--label_maps makes ids 0 .. n - 1 of them"
        )
        return
    classes = [i for i in ids if i != _unknown_among(ids, opt)]
    gaps = sorted({*range(max(classes, default=0))} - {*classes})
    if gaps and not opt.class_table:  # whose missing classes are told by name
        yield (
            f"{len(gaps):,} of the ids 0 .. {max(classes)} are in no label map ({first_few(list(map(str, gaps)), 8)}), "
            "and take memory and time: datasets/prepare_custom.py --label_maps makes ids 0 .. n - 1 of the others"
        )
    files, count = parts[0].files(), len(parts[0].items)
    rare = [i for i in classes if 0 < files.get(i, 0) < RARE * count]
    if rare:
        named = [f"{i}: {files[i]:,}" for i in rare]
        yield (
            f"in fewer than {RARE:.0%} of the {count:,} {parts[0].name} label maps are the ids {first_few(named, 8)}; "
            "are they classes? datasets/prepare_custom.py --merge and --void do away with them"
        )


def refuse_many_ids(part: Part) -> None:
    """Note it where what nobody has said the number of classes of has too many ids for classes."""
    count = len(part.pixels())
    if count > MOST_CLASSES:
        part.add(
            "ids",
            f"{part.dataset.paths.labels[0]} and the other {part.name} label maps hold {count:,} ids, more than there "
            "are classes: are they depth or instance maps, or photos? Else give --label_nc",
        )


class AnyIds(IdRules):
    """Any id that can be one of a class: for a data set whose number of classes nobody has said."""

    def problem(self, wrong: list[int]) -> str:
        listed = first_few(list(map(str, wrong)), 8)
        rule = f"those of classes are 0 .. {MOST - 1}"
        return f"ids {listed}, but {rule}: is it a depth or instance map? Correct the file, or leave it out"


def ids_alone(part: Part) -> None:
    """Count ids of a part, instead of asking whether they are of a class."""
    part.dataset.rules = AnyIds(MOST, has_unknown=False, unknown_id=None, zero_is_unknown=False, is_train=True)


def first_of_each(problems: Iterable[Problem]) -> list[tuple[str, list[str]]]:
    """The texts of each kind of problem that there is, errors first."""
    by_kind: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for problem in problems:
        by_kind[problem.kind].append(problem.text)
    return [(kind, texts) for kind, texts in by_kind.items() if texts]


def missing_classes(part: Part, names: dict[int, str]) -> str | None:
    """Which named classes occur nowhere, in words; None where all do."""
    seen = part.pixels()
    missing = [f"{i} {name.split(';')[0]}" for i, name in names.items() if i not in seen]
    if not missing or not names:
        return None
    return f"{len(missing)} of {len(names)} classes occur in no {part.name} label map: {first_few(missing, 8)}"
