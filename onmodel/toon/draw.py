"""The renderer: a Toon → an RGB picture, drawn three times larger with Pillow and reduced.

A picture is a pure function of the toon and the size, equal byte for byte across processes. This
file lays the figure out and stacks its parts; they are drawn in scenery.py, body.py, face.py and
hair.py with pen.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image, ImageChops

from onmodel.toon.attributes import COLORS, Toon
from onmodel.toon.body import BODIES, SHOULDER_Y, arms_of, draw_arm, draw_body, draw_neck
from onmodel.toon.face import draw_brows, draw_face
from onmodel.toon.hair import HEADWEAR, draw_back_hair, draw_ears, draw_front_hair
from onmodel.toon.pen import INKS, Ink, Pen, Point, Variation
from onmodel.toon.scenery import background, dots, shadow

OVERSAMPLE = 3

# framing → (head radius as share of height, as share of width, head centre as share of height)
FRAMES: dict[str, tuple[float, float, float]] = {
    "close-up": (0.335, 0.36, 0.57),
    "upper body": (0.24, 0.28, 0.455),
}
LOW_HAIR = frozenset({"short hair", "long hair", "bob cut", "braid"})
LINE_AT: dict[str, float] = {"close-up": 1.25, "upper body": 1.0, "full body": 0.8}
NO_INK = (1, 254, 3)  # a colour that no style paints with

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the picture


def layout(toon: Toon, var: Variation, size: tuple[int, int]) -> tuple[float, Point]:
    """Head radius and head centre, in pixels of `size`."""
    width, height = size
    if toon.framing == "full body":
        top = 2.2 if toon.headwear == "witch hat" or toon.ears == "rabbit ears" else 1.62
        sole = BODIES[toon.body].foot
        radius = min(0.965 * height / (top + sole), 0.24 * width)
        y = height / 2 + radius * (top - sole) / 2
    else:
        by_height, by_width, centre = FRAMES[toon.framing]
        radius, y = min(by_height * height, by_width * width), centre * height
        if (
            toon.ears == "none"
            and toon.headwear in ("none", "hair flower")
            and toon.hair_style in LOW_HAIR
        ):
            radius, y = radius * 1.1, y - 0.02 * height  # fill the room of a missing hat
    radius *= var.scale if toon.framing != "full body" else min(var.scale, 1.0)
    dx, dy = var.shift
    return radius, (width / 2 + var.facing * dx * radius, y + dy * radius)


def draw_figure(image: Image.Image, toon: Toon, ink: Ink, var: Variation, line: float) -> None:
    """The character, back to front."""
    radius, centre = layout(toon, var, image.size)
    pen = Pen(image, ink, centre, radius, line, var.facing)
    head = Pen(image, ink, centre, radius, line, var.facing, var.tilt)
    body = BODIES[toon.body]
    arms = arms_of(toon, body, var)
    draw_back_hair(head, toon)
    if toon.framing != "close-up":
        raised = [arm[2][1] < SHOULDER_Y for arm in arms]
        for arm, up in zip(arms, raised, strict=True):
            if up:
                draw_arm(pen, toon, body, arm)
    draw_body(pen, toon, body)
    if toon.framing != "close-up":
        for arm, up in zip(arms, raised, strict=True):
            if not up:
                draw_arm(pen, toon, body, arm)
    draw_neck(pen, toon)
    draw_face(head, toon)
    draw_front_hair(head, toon, var.light)
    draw_brows(head, toon)
    over_ears = toon.headwear in ("halo", "hair bow", "hair flower")
    if over_ears:
        draw_ears(head, toon)
    if toon.headwear != "none":
        HEADWEAR[toon.headwear](head, COLORS["headwear_color"][toon.headwear_color])
    if not over_ears:
        draw_ears(head, toon)


@dataclass(frozen=True)
class _Sheet:
    """What a toon is drawn on: pixels of the picture to one of pixel art, oversampled size and line
    width."""

    pixel: int
    size: tuple[int, int]
    line: float

    @staticmethod
    def of(toon: Toon, ink: Ink, var: Variation, width: int, height: int) -> _Sheet:
        if width % 16 or height % 16 or min(width, height) < 32:
            raise ValueError(
                f"toon size {width}x{height}: sides must be multiples of 16, at least 32"
            )
        pixel = _pixel_size(toon, min(width, height)) if toon.style == "pixel art" else 1
        zoom = (
            OVERSAMPLE if pixel == 1 else 1
        )  # pixel art is drawn on its grid, without blended edges
        size = (round(width / pixel) * zoom, round(height / pixel) * zoom)
        line = (
            1.0
            if pixel > 1
            else max(ink.width * var.weight * LINE_AT[toon.framing] * min(size) / 96, 0.75 * zoom)
        )
        return _Sheet(pixel, size, line)


def draw(toon: Toon, width: int = 96, height: int = 96) -> Image.Image:
    """The toon as an RGB picture; width and height in pixels, multiples of 16."""
    ink, var = INKS[toon.style], Variation.of(toon.nuisance)
    sheet = _Sheet.of(toon, ink, var, width, height)
    image = background(toon, ink, var, sheet.size, sheet.line)
    if toon.style == "comic":
        image.paste((70, 40, 110), mask=dots(sheet.size, round(min(sheet.size) / 16)))
    draw_figure(image, toon, ink, var, sheet.line)
    if toon.style == "noir":
        image = _beam(image, var.light)
    if sheet.pixel > 1:
        image = image.quantize(32, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert(
            "RGB"
        )
        return image.resize((width, height), Image.Resampling.NEAREST)
    return image.reduce(OVERSAMPLE)


def person_box(toon: Toon, width: int = 96, height: int = 96) -> Box:
    """The box of all ink of the figure that `draw` leaves in a picture of this size."""
    ink, var = INKS[toon.style], Variation.of(toon.nuisance)
    sheet = _Sheet.of(toon, ink, var, width, height)
    empty = Image.new("RGB", sheet.size, NO_INK)
    image = empty.copy()
    draw_figure(image, toon, ink, var, sheet.line)
    box = ImageChops.difference(image, empty).getbbox()
    assert box is not None  # every framing shows the face
    across, down = width / sheet.size[0], height / sheet.size[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def head_box(toon: Toon, width: int = 96, height: int = 96) -> Box:
    """The square around the skull, without hair, ears and hat, clipped to the picture."""
    var = Variation.of(toon.nuisance)
    radius, (x, y) = layout(toon, var, (width, height))
    x += (
        var.facing * math.sin(var.tilt) * radius
    )  # the head tilts about the neck, one radius below its centre
    y += (1 - math.cos(var.tilt)) * radius
    return (
        max(x - radius, 0.0),
        max(y - radius, 0.0),
        min(x + radius, float(width)),
        min(y + radius, float(height)),
    )


def _pixel_size(toon: Toon, side: int) -> int:
    """Pixels of the picture to one pixel of pixel art; finer when the face is small."""
    return max(2, round(side / (48 if toon.framing == "full body" else 36)))


def _beam(image: Image.Image, light: int) -> Image.Image:
    """Half of a noir picture lies in shadow."""
    image.paste((8, 8, 10), mask=shadow(image.size, light))
    return image
