"""What benchmarks predict from a step without contents: memory, arithmetic, bytes and time."""

import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.cost import Device, WorkCounter, measured, work_of_a_step
from benchmarks.cost import main as cost_of_one
from benchmarks.memory import StorageCounter, peak_of_a_step
from options.train_options import TrainOptions
from util.errors import UserError

FLAGS = "--dataset_mode custom --label_nc 4 --ngf 4 --ndf 4 --crop_size 64 --no_vgg_loss --batchSize 4 --gpu_ids -1"


def test_a_product_is_counted() -> None:
    """[2, 3] times [3, 4]: 2 * 2 * 3 * 4 operations, and 6 + 12 + 8 numbers of 4 bytes; its transposition is free."""
    with WorkCounter() as counter:
        torch.nn.functional.linear(torch.zeros(2, 3), torch.zeros(4, 3))
    assert counter.work.operations[-1] == (48, 104)
    assert counter.work.flops == 48


def test_bookkeeping_is_free() -> None:
    """Of tensors without contents: where they are, views and memory. The convolution makes 4 x 8 x 8 numbers of 27
    products each, and reads 192 and 108."""
    with FakeTensorMode():
        image, weight = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3)
        with WorkCounter() as counter:
            out = torch.nn.functional.conv2d(image, weight, padding=1)
            assert out.device.type == "cpu"
            torch.empty_like(out.view(-1).detach())
    assert counter.work.operations == [(2 * 256 * 27, 4 * (192 + 108 + 256))]


def test_half_precision_moves_less() -> None:
    opt = TrainOptions().parse(FLAGS.split())
    assert work_of_a_step(opt, "bf16").moved < work_of_a_step(opt).moved


def test_an_operation_takes_what_is_slowest() -> None:
    device = Device(flops=100, bandwidth=10, share_of_flops=0.5, share_of_bandwidth=0.2, start=3)
    assert [device.seconds(*work) for work in ((500, 4), (50, 40), (50, 4))] == [10, 20, 3]


def test_a_machine_of_which_speeds_are_known(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """2 GFLOP/s and 1 GB/s: 4e9 operations take two seconds, 3e9 bytes three. Half the speed is twice the time."""
    assert [measured(2, 1).seconds(*work) for work in ((4e9, 1e9), (4e9, 3e9))] == [2, 3]
    times = []
    for speeds in ("200 20", "100 10"):
        monkeypatch.setattr(sys, "argv", ["cost", "--machine", *speeds.split(), *FLAGS.split()])
        cost_of_one()
        times.append(float(capsys.readouterr().out.split("fp32: ")[1].split(" s")[0]))
    assert times[0] > 0.01  # so that digits are left
    assert times[1] / times[0] == pytest.approx(2, abs=0.2)
    monkeypatch.setattr(sys, "argv", ["cost", "--machine", "200", "20"])
    with pytest.raises(UserError, match="give its flags too, as --dataset_mode coco"):
        cost_of_one()


def test_storages_are_counted_while_they_live() -> None:
    with StorageCounter() as counter:
        a = torch.zeros(100)
        b = a[:50] + a.view(100)[50:]
        del a
        assert (counter.now, counter.peak) == (200, 600)
    assert b.numel() == 50


def test_a_step_of_the_whole_training() -> None:
    """Twice the images are twice the work of convolutions; weights and optimisers stay between steps."""
    four, eight = (TrainOptions().parse([*FLAGS.split(), "--batchSize", str(n)]) for n in (4, 8))
    assert 1.9 < work_of_a_step(eight).flops / work_of_a_step(four).flops < 2.1
    between, peak = peak_of_a_step(four)
    assert 0 < between < peak < peak_of_a_step(eight)[1]
    augmented = TrainOptions().parse([*FLAGS.split(), "--diffaugment", "translation"])
    assert peak_of_a_step(augmented) == (between, peak)  # it is left out


def test_sizes_that_files_decide_cannot_be_predicted() -> None:
    opt = TrainOptions().parse([*FLAGS.split(), "--preprocess_mode", "none"])
    with pytest.raises(UserError, match="--preprocess_mode none: images are as large as the files make them"):
        work_of_a_step(opt)
