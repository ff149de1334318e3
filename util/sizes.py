"""Sizes of layouts."""


def nearest_multiples(side: int, step: int) -> tuple[int, int]:
    """The multiples of `step`, from `step` up, next to `side`: below and above, both `side` where it is one."""
    return max(step, side // step * step), max(step, -(-side // step) * step)
