"""What --diffaugment changes, in tiny images that a reader can follow."""

import pytest
import torch
from torch import Tensor

from models.networks.augmentation import (
    AUGMENTATIONS,
    DRAWS,
    augment_images,
    augment_layouts,
    change_color,
    cut_out,
    shifts,
    translate,
)
from models.networks.semantics import encode_label_map
from options.train_options import TrainOptions
from tests import deterministic
from trainers.pix2pix_trainer import Pix2PixTrainer

IMAGE = torch.arange(1.0, 13.0).reshape(1, 1, 3, 4)  # rows 1 2 3 4, 5 6 7 8, 9 10 11 12


def draws(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("values", "pixel"),
    [
        ((0.5, 0.5, 0.5), [0.2, 0.4, 0.9]),  # half of each range changes nothing
        ((0.75, 0.5, 0.5), [0.45, 0.65, 1.15]),  # 0.25 brighter
        ((0.5, 0.0, 0.5), [0.5, 0.5, 0.5]),  # grey: the mean of its channels
        ((0.5, 0.75, 0.5), [0.05, 0.35, 1.1]),  # 1.5 times as far from grey
        ((0.5, 0.5, 0.0), [0.25, 0.35, 0.6]),  # half as far from the image's mean, which is 0.3
    ],
)
def test_color(values: tuple[float, ...], pixel: list[float]) -> None:
    """Of an image of two pixels, the second 0.1 everywhere, the first."""
    image = torch.tensor([[0.2, 0.1], [0.4, 0.1], [0.9, 0.1]]).reshape(1, 3, 1, 2)
    changed = change_color(image, draws(*values).to(image))
    torch.testing.assert_close(changed[0, :, 0, 0], torch.tensor(pixel))


def test_each_image_has_its_own_color() -> None:
    images = torch.full((2, 3, 2, 2), 0.1)
    changed = change_color(images, torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.5, 0.5]]))
    torch.testing.assert_close(changed, torch.stack([images[0], images[1] + 0.4]))


@pytest.mark.parametrize(
    ("move", "rows"),
    [
        ((0, 0), [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),
        ((1, 0), [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]),
        ((-1, 2), [[0, 0, 5, 6], [0, 0, 9, 10], [0, 0, 0, 0]]),
    ],
)
def test_translation(move: tuple[int, int], rows: list[list[int]]) -> None:
    """Rows down and columns to the right; what comes in is 0."""
    assert translate(IMAGE, torch.tensor([move]))[0, 0].tolist() == rows


def test_layouts_repeat_their_border() -> None:
    """An image has nothing to show there, but a layout has no id for nothing. Edges move along, none is added."""
    label, instance = IMAGE.long(), torch.tensor([[[[1, 1, 2, 2]] * 3]]).reshape(1, 1, 3, 4)
    moved = encode_label_map(label, instance, 13).moved(torch.tensor([[-1, 2]]))
    assert moved.label[0, 0].tolist() == [[5, 5, 5, 6], [9, 9, 9, 10], [9, 9, 9, 10]]
    assert moved.edges[0, 0].tolist() == [[False, False, False, True]] * 3  # columns 0, 0, 0, 1 of 0 1 1 0
    assert moved.shape == (1, 14, 3, 4)


def test_shifts_are_an_eighth_at_most() -> None:
    """Of 16 rows 2, of 32 columns 4; each number of them as often as any other."""
    evenly = (torch.arange(90, dtype=torch.float64) / 90)[:, None].expand(-1, DRAWS)
    down, right = shifts(evenly, (16, 32)).unbind(1)
    assert torch.bincount(down + 2).tolist() == [18] * 5
    assert torch.bincount(right + 4).tolist() == [10] * 9


@pytest.mark.parametrize(
    ("values", "rows"),
    [
        ((0.5, 0.5), [[1, 2, 3, 4], [5, 0, 0, 8], [9, 0, 0, 12]]),  # the middle: a hole of two rows, as half of 3 is 2
        ((0.0, 0.0), [[0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]),  # in a corner most of it is outside
        ((0.999, 0.999), [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 0]]),
    ],
)
def test_cutout(values: tuple[float, float], rows: list[list[int]]) -> None:
    assert cut_out(IMAGE, draws(*values))[0, 0].tolist() == rows


@pytest.mark.parametrize("kinds", [*([kind] for kind in AUGMENTATIONS), AUGMENTATIONS])
def test_gradients_pass_through(kinds: list[str]) -> None:
    """By finite differences, in float64."""
    images = deterministic.image("augmented", 2, 8, 8).double().requires_grad_()
    values = torch.rand(2, DRAWS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: augment_images(x, values, kinds), images)


def test_layouts_and_images_move_alike() -> None:
    """An image that shows its label's id at each pixel does so afterwards, wherever it is not empty."""
    label = deterministic.label_map("moved", 4, 9, 32, 24)
    layouts = encode_label_map(label, None, 9)
    values = torch.rand(4, DRAWS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    images = augment_images(label.float() + 1, values, AUGMENTATIONS[1:])
    seen = images > 0
    assert 0.3 < seen.float().mean() < 0.9
    moved = augment_layouts(layouts, values, AUGMENTATIONS[1:]).label
    assert torch.equal(images[seen].long() - 1, moved[seen])
    assert not torch.equal(moved, label)
    assert augment_layouts(layouts, values, ["color", "cutout"]) is layouts


@pytest.mark.parametrize("kinds", [[], ["--diffaugment", "color", "translation"]])
def test_both_steps_show_changed_images_to_the_discriminator(kinds: list[str]) -> None:
    """A photo, the image for its layout and the layout have changed alike, anew in each step; what people see has not.

    The generator is one that paints the ids as the photo does: so D gets the same image twice.
    """
    flags = "--dataset_mode custom --label_nc 4 --ngf 4 --ndf 4 --crop_size 64 --no_vgg_loss --gpu_ids -1".split()
    trainer = Pix2PixTrainer(TrainOptions().parse([*flags, *kinds]))
    label = deterministic.label_map("label", 2, 4, 64, 64)
    photo = (label.float() / 4 + 0.1).expand(-1, 3, -1, -1)
    weight = next(trainer.model.netG.parameters())
    trainer.model.netG.forward = lambda semantics, z=None: photo + 0 * weight.sum()
    seen: list[tuple[Tensor, Tensor]] = []
    trainer.model.netD.register_forward_pre_hook(lambda _, args: seen.append((args[0].detach(), args[1].label)))
    trainer.step({"label": label, "instance": label, "image": photo, "path": ["a", "b"]})
    (fake, layout), (real, _), (both, layout_then) = seen  # of G's step two, of D's one
    assert torch.equal(fake, real)
    assert torch.equal(both[:2], both[2:])
    for image, layouts in ((fake, layout), (both[:2], layout_then)):
        assert (len(image[0].unique()) > 4) == bool(kinds)  # each id, and what is empty
        for one, ids in zip(image[:, 0], layouts[:, 0], strict=True):
            values = [one[(ids == i) & (one != 0)].unique() for i in range(4)]
            assert [len(value) for value in values] == [1, 1, 1, 1]  # an id has one colour wherever it is
    assert torch.equal(fake, both[:2]) != bool(kinds)
    assert torch.equal(layout, label) != bool(kinds)
    assert torch.equal(trainer._shown[1], photo)
