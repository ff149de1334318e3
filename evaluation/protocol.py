"""How numbers are computed, by name and version: printed with them, so that they can be compared.

Published numbers differ by these choices. A protocol is never changed once it is released; another gets a new name.
"""

from dataclasses import dataclass

AT_IMAGE, AT_LABEL = "image", "label"


@dataclass(frozen=True)
class Protocol:
    """One set of choices."""

    about: str
    compared_at: str  # AT_IMAGE: label maps go to the image's size, by nearest neighbour; AT_LABEL: scores to theirs
    resizing: str = "pytorch-fid"  # of `evaluation.resizing.RESIZINGS`
    reference: str = "val"  # photos that FID compares with: those of the layouts, or `train`: of the training set

    @property
    def text(self) -> str:
        """What it says of accuracies, in words."""
        sizes = {
            AT_IMAGE: "label maps are resized to the synthesised image's size by nearest neighbour",
            AT_LABEL: "the segmenter's scores are resized to the label map's own size bilinearly",
        }
        return f"the synthesised image goes into the segmenter at its own size; {sizes[self.compared_at]}"


PROTOCOLS = {
    "spade-v1": Protocol("the SPADE paper's, as far as it is known", AT_IMAGE),
    "label-size-v1": Protocol("as spade-v1, compared at the label maps' own size, as VASIS does", AT_LABEL),
    "train-photos-v1": Protocol("as spade-v1, FID against training photos, as CLADE does", AT_IMAGE, reference="train"),
}
DEFAULT = "spade-v1"
