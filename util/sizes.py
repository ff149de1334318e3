"""Sizes of layouts, in pixels."""


def nearest_multiples(side: int, step: int) -> tuple[int, int]:
    """The multiples of `step`, from `step` up, next to `side`: below and above, both `side` where it is one."""
    return max(step, side // step * step), max(step, -(-side // step) * step)


def layout_problem(width: int, height: int, multiple: int, fixed: tuple[int, int] | None = None) -> str | None:
    """What keeps a generator from making an image of this size, as text with the sizes that do fit; None if nothing.

    Args:
        multiple: what both sides must be multiples of.
        fixed: the only (width, height) that will do, where a style fixes it.
    """
    layout = f"layout of {width} x {height} (width x height)"
    if fixed is not None and (width, height) != fixed:
        return (
            f"{layout}, but this model's style (--use_vae) fixes the size to {fixed[0]} x {fixed[1]}: resize the "
            "layout, or train with other --crop_size, --crop_height or --aspect_ratio"
        )
    if width % multiple or height % multiple or not width or not height:
        nearest = (nearest_multiples(side, multiple) for side in (width, height))
        wide, high = (" or ".join(str(side) for side in dict.fromkeys(pair)) for pair in nearest)
        return f"{layout}, but the generator takes multiples of {multiple}: the nearest are {wide} wide and {high} high"
    return None
