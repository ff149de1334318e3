"""Names of what is measured, as metrics.json, metrics.csv and TensorBoard have them."""

import math

SHARES = ("miou", "pixel_accuracy", "pixel_accuracy_all", "mean_accuracy")  # 0 .. 1, the higher the better
INCEPTION = ("fid", "kid")  # the lower the better, and so are those below
OF_SEGMENTER = ("segmenter_frechet", "segmenter_kernel")  # in the features of a segmenter of one's own: no FID
METRICS = (*SHARES, *INCEPTION, *OF_SEGMENTER)


def is_better(name: str, value: float, than: float | None) -> bool:
    """Whether a value of METRICS[name] is better than another one, if there is any; NaN never is."""
    if math.isnan(value):
        return False
    if than is None:
        return True
    return value > than if name in SHARES else value < than
