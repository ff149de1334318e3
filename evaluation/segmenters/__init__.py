"""Networks that read layouts back from pictures, by name: those that the field's numbers are computed with.

A segmenter's classes are 0 .. K - 1; what of a data set's label ids is which class is `Kind.class_of`.
"""

from torch import nn

from evaluation.confusion import ALL, PRESENT, SEEN
from evaluation.segmenters import deeplab, drn, upernet
from evaluation.segmenters.kind import Kind

CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of the 19 classes

SEGMENTERS = {
    "deeplabv2": Kind(
        "DeepLabV2 ResNet-101", deeplab.DeepLabV2, deeplab.scores, "coco", range(182), PRESENT, deeplab.FILES
    ),
    "upernet101": Kind("UPerNet-101", upernet.UPerNet101, upernet.scores, "ade20k", range(1, 151), ALL, upernet.FILES),
    "drn_d_105": Kind("DRN-D-105", drn.DRND105, drn.scores, "cityscapes", CITYSCAPES, SEEN, drn.FILES),
}


def build(name: str) -> nn.Module:
    """The network of a segmenter, in evaluation mode, with weights as PyTorch draws them."""
    return SEGMENTERS[name].network().eval()
