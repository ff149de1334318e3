"""Class ids to colours."""

import numpy as np

# The data set's own colours for ids 0 .. 33; id -1 (licence plate) is the last.
CITYSCAPES = np.array(
    [
        (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0), (81, 0, 81), (128, 64, 128),
        (244, 35, 232), (250, 170, 160), (230, 150, 140), (70, 70, 70), (102, 102, 156), (190, 153, 153),
        (180, 165, 180), (150, 100, 100), (150, 120, 90), (153, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
        (0, 0, 70), (0, 60, 100), (0, 0, 90), (0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 142),
    ],
    np.uint8,
)  # fmt: skip

# COCO-Stuff classes that people paint with, in colours that say what they are: sea, sky-other, tree, clouds, grass.
COCO = {154: (40, 72, 150), 156: (125, 200, 250), 168: (32, 110, 42), 105: (200, 205, 215), 123: (96, 188, 66)}


def interleaved(ids: np.ndarray) -> np.ndarray:
    """Colours of ids as in PASCAL VOC, bit-interleaved, of id + 1 so that 0 has a colour too: uint8 [..., 3]."""
    value = np.asarray(ids, np.int64) + 1
    colors = np.zeros((*value.shape, 3), np.uint8)
    for bit in range(7, -1, -1):
        for channel in range(3):
            colors[..., channel] |= ((value >> channel & 1) << bit).astype(np.uint8)
        value = value >> 3
    return colors


def colorize(label: np.ndarray, dataset_mode: str) -> np.ndarray:
    """Class ids [...] to colours uint8 [..., 3]."""
    if dataset_mode == "cityscapes":
        return CITYSCAPES[np.minimum(label, len(CITYSCAPES) - 1)]
    colors = interleaved(label)
    if dataset_mode == "coco":
        for index, color in COCO.items():
            colors[label == index] = color
    return colors
