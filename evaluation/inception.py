"""The Inception network of the Frechet inception distance, and how images get to it.

TensorFlow's network of 2015-12-05, as pytorch-fid carries it over (Heusel et al. 2017, "GANs Trained by a Two
Time-Scale Update Rule"). It is torchvision's Inception v3 with 1008 outputs and other poolings. Letters: N images, H W
their size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.inception import Inception3, InceptionA, InceptionC, InceptionE

from evaluation.weights import Weights

NAME = "pt_inception-2015-12-05-6726825d.pth"
FILES = (Weights(NAME, f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{NAME}", 96),)
FEATURES = 2048


def _average(x: Tensor) -> Tensor:
    """Of 3x3, without what lies outside of the map."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _A(InceptionA):
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(_average(x))]


class _C(InceptionC):
    def _forward(self, x: Tensor) -> list[Tensor]:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return [self.branch1x1(x), once, twice, self.branch_pool(_average(x))]


class _E(InceptionE):
    def _forward(self, x: Tensor) -> list[Tensor]:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(once), self.branch3x3_2b(once)], 1),
            torch.cat([self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)], 1),
            self.branch_pool(self._pool(x)),
        ]

    def _pool(self, x: Tensor) -> Tensor:
        return _average(x)


class _LastE(_E):
    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 1, 1)


class FIDInception(Inception3):
    """Images [N, 3, 299, 299] in about [-1, 1], to features [N, 2048]: the means of the last map (pool3)."""

    def __init__(self) -> None:
        super().__init__(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _A(192, 32), _A(256, 64), _A(288, 64)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _C(768, 128),
            _C(768, 160),
            _C(768, 160),
            _C(768, 192),
        )
        self.Mixed_7b, self.Mixed_7c = _E(1280), _LastE(2048)

    def forward(self, x: Tensor) -> Tensor:
        for name, part in self.named_children():
            if name in ("avgpool", "dropout", "fc"):
                break
            x = part(x)
        return x.mean((2, 3))
