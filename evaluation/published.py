"""Figures of the SPADE paper's Table 1, to stand beside measured ones.

Taken from secondary copies of the table (leaderboards and pages about the papers); a figure for which none was found is
None. How they were computed is not known in all respects: see docs/evaluation.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Shares in percent; None: not published, or not found."""

    method: str
    miou: float | None
    accuracy: float | None
    fid: float | None


TABLE_1 = {
    "coco": (
        Published("CRN", 23.7, 40.4, 70.4),
        Published("pix2pixHD", 14.6, 45.8, 111.5),
        Published("SPADE", 37.4, 67.9, 22.6),
    ),
    "ade20k": (
        Published("CRN", 22.4, 68.8, 73.3),
        Published("pix2pixHD", None, None, None),
        Published("SPADE", 38.5, 79.9, 33.9),
    ),
    "ade20k-outdoor": (
        Published("CRN", 16.5, 68.6, 99.0),
        Published("SIMS", 13.1, None, 67.7),
        Published("pix2pixHD", None, None, None),
        Published("SPADE", 30.8, 82.9, 63.3),
    ),
    "cityscapes": (
        Published("CRN", 52.4, 77.1, 104.7),
        Published("SIMS", 47.2, 75.5, 49.7),
        Published("pix2pixHD", 58.3, 81.4, 95.0),
        Published("SPADE", 62.3, 81.9, 71.8),
    ),
}
