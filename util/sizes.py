"""Sizes of layouts, in pixels."""


def nearest_multiples(side: int, step: int) -> tuple[int, int]:
    """The multiples of `step`, from `step` up, next to `side`: below and above, both `side` where it is one."""
    return max(step, side // step * step), max(step, -(-side // step) * step)


def describe_fitting(width: int, height: int, step: int) -> str:
    """The nearest sides that are multiples of `step`, for a message: '64 wide and 32 or 64 high' for 64 x 54 and 32."""
    return " and ".join(
        f"{' or '.join(str(side) for side in dict.fromkeys(nearest_multiples(given, step)))} {which}"
        for given, which in ((width, "wide"), (height, "high"))
    )
