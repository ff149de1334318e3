"""A painter of landscapes: photo, label map and instance map of a scene, all from a seed.

A scene is painted from back to front on a canvas of twice its size; every stroke sets colours, class and instance of
its pixels. What the layout shows (where the sea is, how many houses) and how it looks (time of day, season) come from
two generators, so that one layout has many photos: that is what a style is.

Letters: S side of the canvas in pixels. Places are fractions of the side, x to the right, y downwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

CLASSES = "sky cloud mountain snow tree grass sand sea road house roof rock flower boat".split()
ID = {name: index for index, name in enumerate(CLASSES)}
Color = np.ndarray | tuple[float, float, float]  # 0 .. 1
Rng = np.random.Generator

# Times of day: colours of the zenith, of the horizon, of the light on things, of clouds.
TIMES = [
    ((0.20, 0.43, 0.78), (0.68, 0.82, 0.93), (1.05, 1.02, 0.95), (0.97, 0.97, 0.98)),  # noon
    ((0.35, 0.38, 0.62), (0.98, 0.72, 0.50), (1.05, 0.80, 0.62), (0.98, 0.78, 0.70)),  # dawn
    ((0.25, 0.16, 0.38), (0.95, 0.42, 0.22), (0.85, 0.52, 0.45), (0.80, 0.42, 0.45)),  # dusk
    ((0.55, 0.58, 0.62), (0.76, 0.78, 0.80), (0.72, 0.74, 0.78), (0.84, 0.85, 0.87)),  # overcast
    ((0.03, 0.05, 0.14), (0.12, 0.17, 0.30), (0.26, 0.32, 0.48), (0.22, 0.26, 0.36)),  # night
]
# Seasons: colours of grass and of trees.
SEASONS = [
    ((0.36, 0.58, 0.20), (0.16, 0.38, 0.12)),  # summer
    ((0.50, 0.68, 0.24), (0.34, 0.54, 0.18)),  # spring
    ((0.64, 0.56, 0.24), (0.66, 0.34, 0.10)),  # autumn
]
WALL_HUES = [0.08, 0.12, 0.02, 0.55]
ROOFS = [(0.62, 0.24, 0.18), (0.45, 0.30, 0.22), (0.36, 0.38, 0.44)]
FLOWERS = [(0.90, 0.25, 0.30), (0.95, 0.80, 0.20), (0.65, 0.35, 0.80), (0.97, 0.95, 0.93)]


def landscape(seed: int, index: int, size: int, look: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scene `index` of data set `seed`; another `look` is the same layout in other light.

    Returns:
        Photo uint8 [size, size, 3]; class ids uint8 [size, size], indices into `CLASSES`; instance ids uint16
        [size, size]: 1000 * class + number for things, the class id for everything else.
    """
    c = Canvas(2 * size, np.random.default_rng([seed, index, 0]), np.random.default_rng([seed, index, 1 + look]))
    for paint in (_sky, _clouds, _mountains, _ground, _forest, _road, _flowers):
        paint(c)
    _things(c)
    photo = c.color.clip(0, 1).reshape(size, 2, size, 2, 3).mean((1, 3)) * 255
    photo += c.look.normal(0, 1.5, photo.shape)  # the camera's noise
    return photo.clip(0, 255).round().astype(np.uint8), c.label[::2, ::2].copy(), c.instance[::2, ::2].copy()


@dataclass(frozen=True)
class Light:
    """How a scene looks."""

    zenith: np.ndarray
    horizon: np.ndarray
    sun: np.ndarray  # what colours of things are multiplied by
    cloud: np.ndarray
    side: float  # where the sun stands, -1 left .. 1 right
    haze: float
    grass: np.ndarray
    tree: np.ndarray

    @classmethod
    def draw(cls, rng: Rng) -> "Light":
        """A mixture of few times and seasons."""
        time, season = rng.dirichlet([0.25] * len(TIMES)), rng.dirichlet([0.3] * len(SEASONS))
        zenith, horizon, sun, cloud = np.tensordot(time, np.array(TIMES), 1)
        grass, tree = np.tensordot(season, np.array(SEASONS), 1)
        return cls(zenith, horizon, sun, cloud, rng.uniform(-1, 1), rng.uniform(0.2, 0.7), grass, tree)


class Canvas:
    """Colours, classes and instances [S, S] of one scene. `rng` draws the layout, `look` everything else."""

    def __init__(self, side: int, rng: Rng, look: Rng) -> None:
        self.side, self.rng, self.look = side, rng, look
        self.light = Light.draw(look)
        self.horizon = rng.uniform(0.34, 0.58)
        self.color = np.zeros((side, side, 3), np.float32)
        self.label = np.zeros((side, side), np.uint8)
        self.instance = np.zeros((side, side), np.uint16)
        self.y, self.x = np.mgrid[0:side, 0:side].astype(np.float32) / side
        self.near = ((self.y - self.horizon) / (1 - self.horizon)).clip(0, 1)  # 0 at the horizon .. 1 in front
        self._counts = dict.fromkeys(CLASSES, 0)

    def paint(self, mask: np.ndarray, name: str, color: Color, thing: bool = False) -> None:
        """`color`, one or [S, S, 3], where `mask` [S, S] holds. A thing becomes an instance of its own."""
        self.tint(mask, color)
        self.label[mask] = self.instance[mask] = ID[name]
        if thing:
            self._counts[name] += 1
            self.instance[mask] = 1000 * ID[name] + self._counts[name]

    def tint(self, mask: np.ndarray, color: Color) -> None:
        """Another colour, but the same class."""
        self.color[mask] = np.broadcast_to(color, self.color.shape)[mask]

    def lit(self, albedo: Color, shade: np.ndarray | float = 1.0, depth: np.ndarray | float = 0.0) -> np.ndarray:
        """An albedo in this light; `depth` 0 (near) .. 1 (far) fades it into the horizon's colour."""
        shade, haze = (np.asarray(value, np.float32)[..., None] for value in (shade, depth))
        haze = haze * self.light.haze
        return (np.asarray(albedo) * self.light.sun * shade * (1 - haze) + self.light.horizon * haze).astype(np.float32)

    def grain(self, cell: float, octaves: int = 4, stretch: float = 1.0) -> np.ndarray:
        """Texture [S, S] with bumps of `cell` sides: part of the look."""
        return _noise(self.look, self.side, cell, octaves, stretch)

    def shape(self, cell: float, octaves: int = 4, stretch: float = 1.0) -> np.ndarray:
        """The same as part of the layout."""
        return _noise(self.rng, self.side, cell, octaves, stretch)

    def profile(self, cell: float, octaves: int = 4) -> np.ndarray:
        """A line [S], about -1 .. 1, with bumps of `cell` sides: part of the layout."""
        total, x = np.zeros(self.side), np.arange(self.side)
        for octave in range(octaves):
            step = cell * self.side / 2**octave
            knots = self.rng.uniform(-1, 1, int(self.side / step) + 3)
            total += np.interp(x, (np.arange(len(knots)) - self.rng.random()) * step, knots) / 2**octave
        return total / 1.4

    def polygon(self, *points: tuple[float, float]) -> np.ndarray:
        """The mask [S, S] of a polygon of places."""
        image = Image.new("1", (self.side, self.side))
        ImageDraw.Draw(image).polygon([(x * self.side, y * self.side) for x, y in points], fill=1)
        return np.array(image)

    def box(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        """The mask [S, S] of a rectangle."""
        return self.polygon((left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        """The mask [S, S] of an ellipse."""
        return ((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2 < 1


def _noise(rng: Rng, side: int, cell: float, octaves: int, stretch: float) -> np.ndarray:
    """Smooth noise [S, S], mean 0, about -1 .. 1; bumps of `cell` sides, `stretch` times as wide as high."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        step = max(1.0, cell * side / 2**octave)
        coarse = rng.random((int(side / step) + 3, int(side / (step * stretch)) + 3), dtype=np.float32) * 2 - 1
        total += np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)) / 1.8**octave
    return total / 1.3


# ---------------------------------------------------------------------------------------------- from back to front


def _sky(c: Canvas) -> None:
    down = (c.y / c.horizon).clip(0, 1)[..., None]
    color = c.light.zenith * (1 - down) + c.light.horizon * down + 0.02 * c.grain(0.3)[..., None]
    c.paint(np.ones_like(c.label, bool), "sky", color)


def _clouds(c: Canvas) -> None:
    for _ in range(c.rng.integers(0, 5)):
        x, y = c.rng.uniform(0, 1), c.rng.uniform(0.05, 0.75) * c.horizon
        r = c.rng.uniform(0.04, 0.11) * (1.2 - 0.6 * y / c.horizon)
        mask = np.zeros_like(c.label, bool)
        for _ in range(c.rng.integers(4, 9)):
            aside, s = c.rng.normal(0, 1.3), c.rng.uniform(0.5, 1.0)
            mask |= c.ellipse(x + aside * r, y - 0.2 * r * s, r * s * 1.3, r * s * 0.75)
        mask &= (c.y < y + 0.25 * r) & (c.y < c.horizon)  # flat below
        shade = 1.02 - 0.27 * ((c.y - y + 0.5 * r) / r).clip(0, 1) + 0.08 * c.grain(0.05)
        c.paint(mask, "cloud", c.light.cloud * shade[..., None], thing=True)


def _mountains(c: Canvas) -> None:
    ranges = c.rng.integers(0, 3)
    for i in range(ranges):
        depth = 0.9 - 0.5 * (i + 1) / ranges
        height = c.rng.uniform(0.10, 0.28) * (1 if i == 0 else 0.6)
        ridge = c.horizon - height * (0.55 + 0.6 * c.profile(0.35, 6)).clip(0.02, None)
        mask = (c.y > ridge[None]) & (c.y < c.horizon + 0.02)
        relief = c.grain(0.10, 5)
        slope = np.gradient(relief, axis=1) * c.side * 0.02 * np.sign(c.light.side)
        shade = (0.8 + 0.6 * slope).clip(0.35, 1.25)
        c.paint(mask, "mountain", c.lit((0.42, 0.38, 0.36), shade * (1 + 0.12 * relief), depth))
        if i == 0 and c.rng.random() < 0.6:
            snow_line = c.horizon - height * c.rng.uniform(0.45, 0.8)
            mask &= c.y + 0.025 * c.shape(0.05) < snow_line
            c.paint(mask, "snow", c.lit((0.95, 0.97, 1.0), 0.25 + 0.75 * shade, depth * 0.5))


def _ground(c: Canvas) -> None:
    """Grass, and perhaps a coast or a lake with sand around it."""
    below, near = c.y >= c.horizon, c.near
    far = 0.8 * (1 - near) ** 2
    grain = c.grain(0.03, 4, 2.0) * (0.4 + near) + 0.5 * c.grain(0.2, 3, 3.0)
    c.paint(below, "grass", c.lit(c.light.grass, 1 + 0.13 * grain, far))
    kind = c.rng.choice(["land", "coast", "coast", "lake"])
    if kind == "land":
        return
    if kind == "coast":
        side = c.rng.choice([-1, 1])
        tilt = c.rng.uniform(0.2, 0.7)
        edge = 0.5 + side * ((0.05 + 0.10 * c.profile(0.25))[:, None] + (near - 0.4) * tilt)
        into = side * (edge - c.x)  # how far into the water, in sides
        beach = 0.05 + 0.20 * near
    else:
        x, y = c.rng.uniform(0.2, 0.8), c.horizon + c.rng.uniform(0.25, 0.55) * (1 - c.horizon)
        rx, ry = c.rng.uniform(0.2, 0.5), c.rng.uniform(0.15, 0.27) * (1 - c.horizon)
        into = 0.2 * (1 - ((c.x - x) / rx) ** 2 - ((c.y - y) / ry) ** 2 + 0.2 * c.shape(0.2))
        beach = 0.03 + 0.08 * near
    sand = c.lit((0.88, 0.76, 0.54), 1 + 0.07 * c.grain(0.015, 3, 2.0), 0.6 * far)
    c.paint(below & (into > -beach), "sand", sand)
    deep = (into / 0.3).clip(0, 1)[..., None]
    water = (c.light.zenith * 0.45 + c.light.horizon * 0.25) * deep + c.lit((0.25, 0.62, 0.62)) * (1 - deep)
    waves = np.sin((c.y - c.horizon).clip(0, None) ** 0.6 * 120 + 3 * c.grain(0.15, 3, 4.0))
    c.paint(below & (into > 0), "sea", water * (1 + 0.10 * waves * near)[..., None])


def _forest(c: Canvas) -> None:
    """A line of trees at the horizon."""
    if c.rng.random() > 0.6:
        return
    top = c.horizon - c.rng.uniform(0.015, 0.05) * (1 + 0.8 * c.profile(0.03, 3))
    stands = 0.6 + c.profile(0.4, 2) > 0.35
    mask = (c.y > top[None]) & (c.y < c.horizon + 0.012) & stands[None]
    c.paint(mask, "tree", c.lit(c.light.tree, 0.8 + 0.3 * c.grain(0.02), 0.5))


def _road(c: Canvas) -> None:
    if c.rng.random() > 0.5:
        return
    near = c.near
    start, end, bend = c.rng.uniform(0.1, 0.9), c.rng.uniform(0.2, 0.8), c.rng.uniform(-0.4, 0.4)
    off = np.abs(c.x - (end + (start - end) * near + bend * near * (1 - near)))
    half = 0.006 + 0.11 * near**1.3
    dry = np.isin(c.label, [ID["grass"], ID["sand"]])
    color = c.lit((0.40, 0.39, 0.40), 1 + 0.08 * c.grain(0.01, 3), 0.5 * (1 - near) ** 2)
    dash = (off < 0.06 * half) & (np.sin(30 / (near + 0.25)) > 0)
    color = np.where(dash[..., None], c.lit((0.95, 0.93, 0.85)), color)
    c.paint((off < half) & (c.y > c.horizon + 0.01) & dry, "road", color)


def _flowers(c: Canvas) -> None:
    if c.rng.random() > 0.45:
        return
    mask = (c.shape(0.12, 3, 2.0) > 0.35) & (c.near > 0.35) & (c.label == ID["grass"])
    cells = -(-c.side // 4)
    blooms = (c.look.random((cells, cells)) < 0.55).repeat(4, 0).repeat(4, 1)[: c.side, : c.side]
    petals = c.lit(c.look.choice(FLOWERS), 1 + 0.1 * c.grain(0.02))
    c.paint(mask, "flower", np.where(blooms[..., None], petals, c.lit(c.light.grass * 0.9)))


def _things(c: Canvas) -> None:
    """Trees, houses, rocks and boats where they may stand, from far to near."""
    kinds: list[tuple[Callable, int, float, list[str]]] = [  # painter, at most, size in front, on what
        (_tree, 6, 0.38, ["grass"]),
        (_house, 3, 0.22, ["grass", "sand"]),
        (_rock, 3, 0.08, ["grass", "sand", "sea"]),
        (_boat, 2, 0.10, ["sea"]),
    ]
    places = []
    for painter, most, scale, grounds in kinds:
        allowed = np.isin(c.label, [ID[name] for name in grounds])
        ys, xs = np.nonzero(allowed & (c.y > c.horizon + 0.015) & (c.y < 0.97))
        for _ in range(c.rng.integers(0, most + 1) if len(ys) else 0):
            k = c.rng.integers(len(ys))
            places.append((ys[k] / c.side, xs[k] / c.side, painter, scale))
    for y, x, painter, scale in sorted(places, key=lambda place: place[0]):
        near = (y - c.horizon) / (1 - c.horizon)
        painter(c, x, y, scale * (0.15 + 0.85 * near) * c.rng.uniform(0.7, 1.2))


def _tree(c: Canvas, x: float, y: float, s: float) -> None:
    trunk = c.polygon((x - 0.05 * s, y), (x + 0.05 * s, y), (x + 0.03 * s, y - 0.5 * s), (x - 0.03 * s, y - 0.5 * s))
    crown, albedo = np.zeros_like(trunk), c.light.tree
    if c.rng.random() < 0.4:  # a fir
        for k in range(3):
            top, half = y - s * (1.1 - 0.25 * k), 0.16 * s + 0.07 * s * k
            crown |= c.polygon((x, top), (x + half, top + 0.42 * s), (x - half, top + 0.42 * s))
        albedo = albedo * (0.7, 0.9, 0.9)
    else:
        for _ in range(6):
            aside, up, r = c.rng.normal(0, 0.15), c.rng.normal(0, 0.12), c.rng.uniform(0.18, 0.3)
            crown |= c.ellipse(x + aside * s, y - (0.72 + up) * s, r * s, r * s)
    shade = 0.95 + 0.54 * c.light.side * (c.x - x) / s + 0.30 * c.grain(0.025, 3)
    c.paint(trunk | crown, "tree", c.lit((0.36, 0.25, 0.16)), thing=True)
    c.tint(crown, c.lit(albedo, shade.clip(0.4, 1.6)))


def _house(c: Canvas, x: float, y: float, s: float) -> None:
    w, h = s * c.rng.uniform(0.5, 0.8), s * c.rng.uniform(0.4, 0.6)
    peak = h * c.rng.uniform(0.5, 0.9)
    hue, pale, bright = c.look.choice(WALL_HUES), c.look.uniform(0.05, 0.4), c.look.uniform(0.7, 0.95)
    shade = 0.9 + 0.12 * c.light.side * np.sign(c.x - x) + 0.04 * c.grain(0.02)
    c.paint(c.box(x - w, y - h, x + w, y), "house", c.lit(_hsv(hue, pale, bright), shade), thing=True)
    dark = c.light.sun.mean() < 0.5
    glass = (0.95, 0.85, 0.5) if dark else c.lit((0.25, 0.32, 0.4))
    for k in (-0.55, 0.55):
        c.tint(c.box(x + (k - 0.2) * w, y - 0.75 * h, x + (k + 0.2) * w, y - 0.35 * h), glass)
    c.tint(c.box(x - 0.14 * w, y - 0.6 * h, x + 0.14 * w, y), c.lit((0.35, 0.2, 0.12)))
    roof = c.polygon(
        (x - 1.15 * w, y - h), (x + 1.15 * w, y - h), (x + 0.6 * w, y - h - peak), (x - 0.6 * w, y - h - peak)
    )
    tiles = 0.9 + 0.15 * np.sin(c.y * c.side * 1.2) + 0.08 * c.grain(0.02)
    c.paint(roof, "roof", c.lit(c.look.choice(ROOFS), tiles), thing=True)


def _rock(c: Canvas, x: float, y: float, s: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    r = s * c.rng.uniform(0.7, 1.0, 9)
    mask = c.polygon(*zip(x + r * np.cos(angle), y + 0.6 * r * np.sin(angle), strict=True))
    shade = 0.9 + 0.5 * c.light.side * (c.x - x) / s - 0.5 * (c.y - y) / s + 0.25 * c.grain(0.03)
    c.paint(mask, "rock", c.lit((0.50, 0.48, 0.46), shade.clip(0.3, 1.5)), thing=True)


def _boat(c: Canvas, x: float, y: float, s: float) -> None:
    hull = c.polygon((x - s, y - 0.25 * s), (x + s, y - 0.25 * s), (x + 0.7 * s, y), (x - 0.7 * s, y))
    sail = c.polygon((x, y - 1.8 * s), (x, y - 0.35 * s), (x + 0.85 * s, y - 0.35 * s))
    c.paint(hull | sail, "boat", c.lit((0.45, 0.25, 0.15)), thing=True)
    c.tint(sail, c.lit((0.97, 0.95, 0.9)))


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue 0 .. 1 of a saturated colour, mixed with white and darkened: [3]."""
    pure = (np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1).clip(0, 1)
    return value * (1 - saturation + saturation * pure)
