"""Reading layouts back from pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.layout_accuracy import layout_of, main, pixel_accuracy
from evaluation.small_segmenter import SmallSegmenter, read_layouts, train_segmenter
from util.class_table import ClassTable
from util.errors import UserError

COLORS = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])  # classes 0, 1, 2 are red, green, blue


def squares(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [N, 3, 16, 16] of coloured squares of 8 pixels, and their classes [N, 16, 16]."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 3, (count, 2, 2)).repeat(8, 1).repeat(8, 2))
    return COLORS[labels].permute(0, 3, 1, 2).contiguous(), labels


def test_accuracy_counts_known_pixels() -> None:
    """Of four pixels one is unknown (9) and two of the other three are right."""
    read, labels = torch.tensor([[[0, 1], [1, 2]]]), torch.tensor([[[0, 1], [2, 9]]])
    assert pixel_accuracy(read, labels, classes=3) == pytest.approx(2 / 3)
    assert pixel_accuracy(read, torch.full_like(labels, 9), classes=3) == 0


def test_segmenter_shapes() -> None:
    assert SmallSegmenter(5)(torch.zeros(2, 3, 24, 40)).shape == (2, 5, 24, 40)


def test_segmenter_learns_colours() -> None:
    torch.set_num_threads(1)
    photos, labels = squares(40)
    labels = torch.where(torch.rand(labels.shape, generator=torch.Generator().manual_seed(0)) < 0.1, 255, labels)
    net = train_segmenter(photos, labels, classes=3, epochs=4, batch_size=4)
    fresh, truth = squares(8, seed=1)
    assert pixel_accuracy(read_layouts(net, fresh), truth, 3) > 0.95
    again = train_segmenter(photos, labels, classes=3, epochs=4, batch_size=4)
    assert (read_layouts(net, fresh) == read_layouts(again, fresh)).all()


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Training and validation pairs, and `made`: pictures of the validation layouts in all but the right places."""
    for split, seed in (("train", 0), ("val", 1)):
        photos, labels = squares(40, seed)
        for kind in ("img", "label"):
            (tmp_path / f"{split}_{kind}").mkdir()
        for i in range(40):
            pixels = ((photos[i].permute(1, 2, 0) + 1) * 127.5).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / f"{split}_img" / f"{i}.png")
            Image.fromarray(labels[i].byte().numpy()).save(tmp_path / f"{split}_label" / f"{i}.png")
    argv = ["--label_dir", "val_label", "--image_dir", "val_img", "--train_label_dir", "train_label"]
    argv = [*argv, "--train_image_dir", "train_img"]
    return [str(tmp_path / a) if "_" in a and not a.startswith("--") else a for a in argv] + ["--label_nc", "3"]


def test_pictures_that_follow_their_layouts_and_others(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = [*folders, "--epochs", "6", "--at_least", "0.7"]
    perfect = ["--synthesized", str(tmp_path / "val_img"), "--at_least", "1"]  # the real photos themselves
    main([*argv, *perfect])
    said = capsys.readouterr().out.splitlines()[2:]
    real, made, others = (float(line.split()[k]) for line, k in zip(said, (2, 4, 5), strict=True))
    assert real == made > 0.9
    assert others < 0.6  # a third by chance

    (tmp_path / "wrong").mkdir()
    for i in range(40):
        (tmp_path / "wrong" / f"{i}.png").write_bytes((tmp_path / "val_img" / f"{(i + 7) % 40}.png").read_bytes())
    with pytest.raises(SystemExit) as stop:
        main([*argv, "--synthesized", str(tmp_path / "wrong")])
    assert stop.value.code == 1
    assert "fall short of 0.7" in capsys.readouterr().err


def test_styles_and_the_layouts_they_show(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of two styles of each of two layouts, against the other layout: never against another style of its own."""
    for name in ("img", "label"):
        for i in range(2, 40):
            (tmp_path / f"val_{name}" / f"{i}.png").unlink()
    (tmp_path / "made").mkdir()
    for path in (tmp_path / "val_img").iterdir():
        for style in ("s00", "s01"):
            (tmp_path / "made" / f"{path.stem}_{style}.png").write_bytes(path.read_bytes())
    main([*folders, "--epochs", "6", "--synthesized", str(tmp_path / "made")])
    said = capsys.readouterr().out.splitlines()[2:]
    real, made, others = (float(line.split()[k]) for line, k in zip(said, (2, 4, 5), strict=True))
    a, b = (np.asarray(Image.open(path)) for path in (tmp_path / "val_label").iterdir())
    assert real == made > 0.9 and others == pytest.approx((a == b).mean(), abs=0.05) and others < 0.6


def test_names_that_end_like_styles() -> None:
    """A layout of that very name comes first."""
    assert layout_of("a/x_s01.png", {"x", "x_s01"}) == "x_s01"
    assert layout_of("a/x_s01.png", {"x"}) == "x"


def test_painted_layouts_and_a_single_one(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Label maps in colours are read by a class table; one layout has no others to be compared with."""
    for split in ("train", "val"):
        for path in (tmp_path / f"{split}_label").iterdir():
            Image.fromarray(ClassTable.load("sample").colorize(np.asarray(Image.open(path)))).save(path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "3.png").write_bytes((tmp_path / "val_img" / "3.png").read_bytes())
    argv = [*folders, "--epochs", "4", "--synthesized", str(tmp_path / "made")]
    with pytest.raises(UserError, match="--label_palette TABLE reads it"):
        main(argv)
    main([*argv, "--label_palette", "sample"])
    said = capsys.readouterr().out
    assert float(said.split("layouts ")[1].split()[0]) > 0.9 and "layouts of others" not in said


def test_mistakes(folders: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures; run test.py first"):
        main([*folders, "--synthesized", str(tmp_path / "empty")])
    with pytest.raises(UserError, match="--synthesized .*nowhere is not a folder"):
        main([*folders, "--synthesized", str(tmp_path / "nowhere")])
    real = ["--synthesized", str(tmp_path / "val_img")]
    with pytest.raises(UserError, match="--train_image_dir .*empty holds no pictures$"):
        main([*folders, *real, "--train_image_dir", str(tmp_path / "empty")])
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "3.png").write_bytes((tmp_path / "val_img" / "3.png").read_bytes())
    with pytest.raises(UserError, match="--image_dir has no file of the name 0, 1, 2 and 36 more"):
        main([*folders, *real, "--image_dir", str(tmp_path / "one")])
    with pytest.raises(UserError, match="--label_dir has ids 1, 2, but --label_nc 1 allows 0 .. 0 and one more"):
        main([*folders, *real, "--label_nc", "1"])
    with pytest.raises(UserError, match="no pixel of the real photos right.*--label_nc 1"):
        black = Image.new("L", (16, 16), 2)
        for path in (tmp_path / "train_label").iterdir():
            black.save(path)
        for path in (tmp_path / "val_label").iterdir():
            Image.new("L", (16, 16), 1).save(path)
        main([*folders, *real, "--label_nc", "1"])
    (tmp_path / "val_label" / "3.png").unlink()
    with pytest.raises(UserError, match="3.png has no label map of its name in --label_dir"):
        main([*folders, *real])
