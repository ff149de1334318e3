"""A segmenter small enough to train in a minute on a CPU, to read layouts back from pictures of a simple data set.

Letters: N pictures, K classes, H W size in pixels, a multiple of 8.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (8, 24, 48, 64)  # channels at full, half, quarter and eighth resolution


class SmallSegmenter(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three scales: pictures [N, 3, H, W] in [-1, 1] to logits [N, K, H, W]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        before = (3, *WIDTHS[:-1])
        self.down = nn.ModuleList(_block(a, b) for a, b in zip(before, WIDTHS, strict=True))
        self.up = nn.ModuleList(_block(a + b, a) for a, b in itertools.pairwise(WIDTHS))
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)  # [N, WIDTHS[i], H / 2^i, W / 2^i]
            skips.append(x)
        skips.pop()
        for block in reversed(self.up):
            skip = skips.pop()
            x = block(torch.cat([skip, F.interpolate(x, skip.shape[-2:])], 1))
        return self.head(x)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def train_segmenter(
    photos: Tensor,
    labels: Tensor,
    classes: int,
    epochs: int = 8,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int], None] = lambda epoch: None,
) -> SmallSegmenter:
    """Train on photos [N, 3, H, W] in [-1, 1] and labels long [N, H, W]; ids outside 0 .. classes - 1 are ignored."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    net = SmallSegmenter(classes).train().to(memory_format=torch.channels_last)  # which CPUs work faster with
    photos = photos.to(memory_format=torch.channels_last)
    labels = torch.where((labels >= 0) & (labels < classes), labels, -1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    steps = epochs * -(-len(photos) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(1, epochs + 1):
        for rows in torch.randperm(len(photos), generator=order).split(batch_size):
            x, y = photos[rows], labels[rows]
            if torch.rand((), generator=order) < 0.5:
                x, y = x.flip(-1), y.flip(-1)
            loss = F.cross_entropy(net(x), y, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress(epoch)
    return net.eval()


@torch.no_grad()
def read_layouts(net: SmallSegmenter, pictures: Tensor, batch_size: int = 32) -> Tensor:
    """The classes that the segmenter sees in pictures [N, 3, H, W]: long [N, H, W]."""
    return torch.cat([net(batch).argmax(1) for batch in pictures.split(batch_size)])
