"""Scenery: the picture behind the figure, one function a background, and comic's halftone and
noir's shadow masks."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from PIL import Image, ImageDraw

from onmodel.toon.attributes import RGB, Toon
from onmodel.toon.pen import WHITE, Ink, Points, Variation, mix

GRADIENTS: dict[str, tuple[RGB, ...]] = {
    "white background": ((250, 250, 252), (246, 246, 250)),
    "blue sky": ((84, 172, 246), (190, 228, 255)),
    "night sky": ((18, 22, 62), (44, 52, 116)),
    "forest": ((150, 212, 150), (86, 160, 96)),
    "indoors": ((244, 224, 196), (236, 208, 178)),
    "beach": ((150, 220, 250), (214, 244, 255)),
    "sunset": ((120, 70, 150), (244, 120, 90), (255, 204, 104)),
}


class Backdrop:
    """Draws scenery in picture units: x 0..1 across, y 0..1 down, radii in units of the shorter
    side."""

    def __init__(self, image: Image.Image, ink: Ink, line: float, flip: bool) -> None:
        self.canvas, self.ink, (self.w, self.h) = ImageDraw.Draw(image), ink, image.size
        self.unit, self.flip = min(self.w, self.h), flip
        self.line = round(line * 0.8) if ink.contour else 0

    def area(self, points: Points, fill: RGB) -> None:
        xy = [((1 - x if self.flip else x) * self.w, y * self.h) for x, y in points]
        self.canvas.polygon(xy, fill=self.ink.back(fill))
        if self.line:
            self.canvas.line([*xy, xy[0]], fill=(150, 150, 154), width=self.line)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self.area([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def disk(self, x: float, y: float, r: float, fill: RGB) -> None:
        x, y, r = (1 - x if self.flip else x) * self.w, y * self.h, r * self.unit
        self.canvas.ellipse(
            (x - r, y - r, x + r, y + r),
            fill=self.ink.back(fill),
            outline=(150, 150, 154) if self.line else None,
            width=max(self.line, 1),
        )

    def cloud(self, x: float, y: float, r: float, fill: RGB) -> None:
        for dx, dy, k in ((-1.1, 0.25, 0.7), (1.1, 0.3, 0.65), (0, 0, 1)):
            self.disk(x + dx * r, y + dy * r, r * k, fill)


def _white(b: Backdrop, prop: int) -> None:
    """Nothing: the plain background."""


def _blue_sky(b: Backdrop, prop: int) -> None:
    b.cloud(0.16, 0.26, 0.12, WHITE)
    b.cloud(0.86, 0.46, 0.11, WHITE)
    if prop == 0:
        b.disk(0.9, 0.1, 0.13, (255, 236, 120))
    elif prop == 1:
        b.disk(0.88, 0.16, 0.1, (244, 90, 96))
        b.box(0.855, 0.28, 0.905, 0.33, (150, 96, 60))
    b.area([(0, 0.9), (0.3, 0.82), (0.7, 0.86), (1, 0.8), (1, 1), (0, 1)], (124, 204, 110))


def _night_sky(b: Backdrop, prop: int) -> None:
    b.disk(0.84, 0.17, 0.13, (255, 244, 190))
    b.disk(0.79, 0.14, 0.11, (26, 30, 74))
    for x, y in ((0.1, 0.12), (0.24, 0.36), (0.07, 0.6), (0.92, 0.5), (0.6, 0.06), (0.36, 0.1)):
        b.area(
            [
                (x, y - 0.04),
                (x + 0.012, y),
                (x + 0.04, y),
                (x + 0.012, y + 0.012),
                (x, y + 0.05),
                (x - 0.012, y + 0.01),
                (x - 0.04, y),
                (x - 0.012, y),
            ],
            (255, 246, 200),
        )
    b.box(0, 0.9, 1, 1, (22, 24, 52))
    if prop:
        b.box(0.02, 0.66, 0.2, 1, (22, 24, 52))
        b.box(0.07, 0.72, 0.14, 0.8, (255, 222, 120))


def _forest(b: Backdrop, prop: int) -> None:
    for x, w in ((0.08, 0.1), (0.9, 0.12)) + (((0.3, 0.07),) if prop else ()):
        b.box(x - w / 2, 0.2, x + w / 2, 0.9, (122, 84, 56))
    for x, y, r in ((0.04, 0.1, 0.26), (0.95, 0.12, 0.28), (0.48, 0.0, 0.22)):
        b.disk(x, y, r, (56, 132, 72))
    b.box(0, 0.84, 1, 1, (104, 158, 72))
    if prop == 2:
        b.box(0.13, 0.82, 0.17, 0.9, WHITE)
        b.disk(0.15, 0.81, 0.07, (226, 70, 66))


def _indoors(b: Backdrop, prop: int) -> None:
    b.box(0, 0.8, 1, 1, (176, 122, 84))
    b.box(0.64, 0.1, 0.98, 0.46, (255, 252, 244))
    b.box(0.67, 0.13, 0.8, 0.43, (160, 216, 250))
    b.box(0.82, 0.13, 0.95, 0.43, (160, 216, 250))
    if prop == 0:
        b.box(0.02, 0.34, 0.24, 0.82, (142, 92, 64))
        for y, color in ((0.38, (214, 90, 84)), (0.54, (92, 140, 200)), (0.69, (240, 196, 90))):
            b.box(0.05, y, 0.21, y + 0.1, color)
    elif prop == 1:
        b.box(0.1, 0.4, 0.13, 0.82, (120, 84, 66))
        b.area([(0.06, 0.22), (0.17, 0.22), (0.23, 0.42), (0, 0.42)], (250, 190, 110))
    else:
        b.box(0.06, 0.66, 0.2, 0.82, (214, 112, 80))
        b.disk(0.13, 0.52, 0.13, (92, 164, 96))


def _beach(b: Backdrop, prop: int) -> None:
    b.box(0, 0.48, 1, 0.78, (42, 164, 196))
    b.area([(0, 0.76), (0.5, 0.72), (1, 0.77), (1, 1), (0, 1)], (250, 226, 164))
    if prop == 0:
        b.box(0.12, 0.34, 0.145, 0.9, (240, 240, 240))
        b.area(
            [(-0.08, 0.4), (-0.02, 0.24), (0.13, 0.18), (0.28, 0.24), (0.34, 0.4)], (240, 92, 88)
        )
        b.area([(0.05, 0.4), (0.13, 0.18), (0.21, 0.4)], WHITE)
    elif prop == 1:
        b.area([(0.08, 0.9), (0.14, 0.3), (0.18, 0.3), (0.15, 0.9)], (158, 112, 74))
        for x0, x1, y in ((-0.1, 0.16, 0.34), (0.16, 0.42, 0.34), (0.0, 0.32, 0.14)):
            b.area([(x0, y), ((x0 + x1) / 2, y - 0.09), (x1, y), (0.16, 0.28)], (70, 160, 84))
    else:
        b.area([(0.68, 0.5), (0.98, 0.5), (0.92, 0.57), (0.74, 0.57)], (240, 240, 244))
        b.area([(0.82, 0.47), (0.82, 0.22), (0.97, 0.46)], (250, 130, 110))


def _sunset(b: Backdrop, prop: int) -> None:
    b.disk(0.78, 0.52, 0.2, (255, 240, 170))
    b.area(
        [(0, 0.74), (0.22, 0.6), (0.48, 0.74), (0.74, 0.64), (1, 0.72), (1, 1), (0, 1)],
        (104, 52, 98),
    )
    if prop == 1:
        b.cloud(0.2, 0.24, 0.09, (252, 170, 150))
    elif prop == 2:
        b.box(0.04, 0.42, 0.16, 0.9, (74, 38, 82))
        b.box(0.16, 0.54, 0.26, 0.9, (74, 38, 82))


SCENERY: dict[str, Callable[[Backdrop, int], None]] = {
    "white background": _white,
    "blue sky": _blue_sky,
    "night sky": _night_sky,
    "forest": _forest,
    "indoors": _indoors,
    "beach": _beach,
    "sunset": _sunset,
}


def background(
    toon: Toon, ink: Ink, var: Variation, size: tuple[int, int], line: float
) -> Image.Image:
    """The scenery, at the oversampled size in pixels."""
    stops = [
        ink.back(
            mix(color, (255, 190, 160) if var.hue > 0 else (150, 200, 255), 0.1 * abs(var.hue))
        )
        for color in GRADIENTS[toon.background]
    ]
    column = Image.new("RGB", (1, len(stops)))
    column.putdata(stops)
    image = column.resize(size, Image.Resampling.BILINEAR)
    SCENERY[toon.background](Backdrop(image, ink, line, var.facing < 0), var.prop)
    return image


@lru_cache(maxsize=16)
@lru_cache(maxsize=16)
def dots(size: tuple[int, int], pitch: int) -> Image.Image:
    """A halftone mask; `pitch` in oversampled pixels."""
    mask = Image.new("L", size)
    canvas, r = ImageDraw.Draw(mask), pitch * 0.36
    for row, y in enumerate(range(0, size[1] + pitch, pitch)):
        for x in range((row % 2) * pitch // 2, size[0] + pitch, pitch):
            canvas.ellipse((x - r, y - r, x + r, y + r), fill=44)
    return mask


@lru_cache(maxsize=16)
def shadow(size: tuple[int, int], light: int) -> Image.Image:
    """Noir's slanted shadow as a mask."""
    width, height = size
    mask = Image.new("L", size)
    edge = [(0.62, 0), (0.5, 1), (1, 1), (1, 0)]
    ImageDraw.Draw(mask).polygon(
        [((x if light > 0 else 1 - x) * width, y * height) for x, y in edge], fill=110
    )
    return mask
