"""Ink and pen: how each style colours and outlines shapes, what the nuisance seed varies, and
drawing primitives.

Figure coordinates are in head radii: the head's centre is (0, 0), the chin (0, 1), x to the right,
y down.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw

from onmodel.toon.attributes import RGB

Point = tuple[float, float]
Points = Sequence[Point]
WHITE, BLACK = (255, 255, 255), (34, 28, 44)


# --- colour and style
# ------------------------------------------------------------------------------------------------


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Colour `a` with `share` (0..1) of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def grey(color: RGB) -> int:
    """Luma, 0..255."""
    return round(0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2])


def _same(color: RGB) -> RGB:
    return color


def _paper(color: RGB) -> RGB:
    """Line art keeps only the darkest parts (pupils, open mouths)."""
    return WHITE if grey(color) > 52 else BLACK


def _faint(color: RGB) -> RGB:
    return (236 + grey(color) // 14,) * 3


def _pale(color: RGB) -> RGB:
    luma = grey(color)
    return mix(mix(color, (luma, luma, luma), 0.12), (255, 246, 244), 0.42)


def _saturated(color: RGB) -> RGB:
    luma = grey(color)
    return tuple(max(0, min(255, round(luma + (v - luma) * 1.25))) for v in color)  # type: ignore[return-value]


def _ink_grey(color: RGB) -> RGB:
    """Noir: greys pushed towards black and white."""
    luma = grey(color) / 255
    return (round(255 * (luma * luma * (3 - 2 * luma)) * 0.94 + 6),) * 3


def _night(color: RGB) -> RGB:
    return (round(grey(color) * 0.42 + 6),) * 3


def _black_line(fill: RGB) -> RGB:
    return BLACK


def _mauve_line(fill: RGB) -> RGB:
    return mix(mix(fill, (120, 70, 130), 0.62), BLACK, 0.05)


def _pixel_line(fill: RGB) -> RGB:
    return mix(fill, BLACK, 0.8)


@dataclass(frozen=True)
class Ink:
    """A style: how fills and backgrounds are coloured, the outline (None: no outlines) and its
    width in pixels/96."""

    paint: Callable[[RGB], RGB] = _same
    back: Callable[[RGB], RGB] = _same
    line: Callable[[RGB], RGB] | None = _black_line
    width: float = 1.3
    shade: float = 0.18
    contour: bool = False  # inner shapes and strokes are drawn as lines too


INKS: dict[str, Ink] = {
    "flat color": Ink(line=None, shade=0.10),
    "lineart": Ink(paint=_paper, back=_faint, width=1.2, shade=0.0, contour=True),
    "pixel art": Ink(line=_pixel_line, width=1.7),
    "pastel": Ink(
        paint=_pale,
        back=lambda c: mix(_pale(c), (255, 250, 248), 0.35),
        line=_mauve_line,
        width=1.1,
    ),
    "noir": Ink(paint=_ink_grey, back=_night, width=1.3, shade=0.5),
    "comic": Ink(paint=_saturated, back=_saturated, width=2.0, shade=0.24),
}


@dataclass(frozen=True)
class Variation:
    """What the nuisance seed changes and no caption mentions."""

    weight: float  # line width factor
    light: int  # side of the light, -1 or 1
    facing: int  # mirror of the whole figure, -1 or 1
    shift: Point  # of the figure, in head radii
    scale: float
    tilt: float  # of the head, radians
    arm: float  # arm angle, radians
    prop: int  # which of a background's props
    hue: float  # background tint, -1..1

    @staticmethod
    def of(seed: int) -> Variation:
        rnd = random.Random(seed)
        u = [rnd.random() for _ in range(10)]
        return Variation(
            0.82 + 0.4 * u[0],
            1 if u[1] < 0.5 else -1,
            1 if u[2] < 0.5 else -1,
            (0.36 * (u[3] - 0.5), 0.16 * (u[4] - 0.5)),
            0.93 + 0.1 * u[5],
            0.16 * (u[6] - 0.5),
            0.36 * (u[7] - 0.5),
            int(u[8] * 3),
            2 * u[9] - 1,
        )


# --- pen
# -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def smooth(points: tuple[Point, ...], closed: bool = True) -> tuple[Point, ...]:
    """A Catmull-Rom curve through the points, five samples a span."""
    n, out = len(points), []
    for i in range(n if closed else n - 1):
        p0, p1, p2, p3 = (
            points[j % n] if closed else points[min(max(j, 0), n - 1)] for j in range(i - 1, i + 3)
        )
        for k in range(5):
            t = k / 5
            a, b, c, d = (
                -t + 2 * t * t - t**3,
                2 - 5 * t * t + 3 * t**3,
                t + 4 * t * t - 3 * t**3,
                t**3 - t * t,
            )
            out.append(
                (
                    0.5 * (a * p0[0] + b * p1[0] + c * p2[0] + d * p3[0]),
                    0.5 * (a * p0[1] + b * p1[1] + c * p2[1] + d * p3[1]),
                )
            )
    return tuple(out) if closed else (*out, points[-1])


def mirrored(points: Points) -> tuple[Point, ...]:
    """The right half (from top to bottom) and its mirror image, as one outline."""
    return (*points, *((-x, y) for x, y in reversed(points)))


class Pen:
    """Draws figure coordinates into a picture: rotated, mirrored, scaled, painted and outlined in
    one style."""

    def __init__(
        self,
        image: Image.Image,
        ink: Ink,
        origin: Point,
        scale: float,
        line: float,
        facing: int = 1,
        tilt: float = 0.0,
    ) -> None:
        self.ink, self.origin, self.scale, self.line = ink, origin, scale, line
        self.canvas = ImageDraw.Draw(image)
        self.facing = facing
        self.cos, self.sin = math.cos(tilt) * scale, math.sin(tilt) * scale

    def at(self, points: Points) -> list[Point]:
        f, c, s, (ox, oy) = self.facing, self.cos, self.sin, self.origin
        # the neck (0, 1) is the centre of rotation, so a tilted head stays on its body
        return [
            (ox + f * (c * x - s * (y - 1)), oy + s * x + c * (y - 1) + self.scale)
            for x, y in points
        ]

    def shape(self, points: Points, fill: RGB, outlined: bool = True) -> None:
        xy = self.at(points)
        self.canvas.polygon(xy, fill=self.ink.paint(fill))
        if self.ink.line and (outlined or self.ink.contour):
            self.canvas.line(
                [*xy, xy[0], xy[1]], fill=self.ink.line(fill), width=round(self.line), joint="curve"
            )

    def patch(self, points: Points, fill: RGB, edge: Points) -> None:
        """A fill of which only `edge` is outlined; the rest merges with what lies behind."""
        self.canvas.polygon(self.at(points), fill=self.ink.paint(fill))
        if self.ink.line:
            self.canvas.line(
                self.at(edge), fill=self.ink.line(fill), width=round(self.line), joint="curve"
            )

    def oval(
        self, x: float, y: float, rx: float, ry: float, fill: RGB, outlined: bool = False
    ) -> None:
        ((cx, cy),) = self.at([(x, y)])
        rx, ry = rx * self.scale, ry * self.scale
        edge = self.ink.line(fill) if outlined and self.ink.line else None
        if edge:
            half = self.line / 2
            self.canvas.ellipse(
                (cx - rx - half, cy - ry - half, cx + rx + half, cy + ry + half), fill=edge
            )
            rx, ry = max(rx - half, 0.0), max(ry - half, 0.0)
        self.canvas.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=self.ink.paint(fill))

    def stroke(self, points: Points, width: float, fill: RGB, least: float = 1.0) -> None:
        """An open line, `width` in head radii but at least `least` outlines wide."""
        size = max(width * self.scale, self.line * least, 1.0)
        passes = [(self.ink.paint(fill), size)]
        if self.ink.contour:
            passes = (
                [(BLACK, size)] if grey(fill) < 170 else [(BLACK, size + 2 * self.line), *passes]
            )
        self._tube(self.at(points), passes)

    def _tube(self, xy: list[Point], passes: list[tuple[RGB, float]]) -> None:
        """A round-ended line, once for each colour and width."""
        for color, size in passes:
            self.canvas.line(xy, fill=color, width=max(1, round(size)), joint="curve")
            for x, y in (xy[0], xy[-1]) if size > 2 else ():
                self.canvas.ellipse(
                    (x - size / 2, y - size / 2, x + size / 2, y + size / 2), fill=color
                )

    def limb(self, points: Points, width: float, fill: RGB) -> None:
        """A round-ended outlined tube."""
        size = width * self.scale
        edge = [(self.ink.line(fill), size + self.line)] if self.ink.line else []
        self._tube(
            self.at(points), [*edge, (self.ink.paint(fill), size - (self.line if edge else 0))]
        )

    def dark(self, fill: RGB, share: float | None = None) -> RGB:
        """The shaded tone of a fill."""
        return mix(fill, (60, 40, 90), self.ink.shade if share is None else share)
