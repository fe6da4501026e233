"""Hair, animal ears and headwear. Figure coordinates as in pen.py."""

from __future__ import annotations

import math
from collections.abc import Callable

from onmodel.toon.attributes import COLORS, RGB, Toon
from onmodel.toon.pen import BLACK, WHITE, Pen, Points, grey, mirrored, mix, smooth

# Fringe: inner edge from the right lock to the left one, seen from the front; the outer edge is the
# head's dome.
FRINGES: dict[str, Points] = {
    "short hair": (
        (1.04, 0.5),
        (0.9, -0.02),
        (0.76, -0.36),
        (0.42, -0.16),
        (0.26, -0.5),
        (-0.1, -0.16),
        (-0.28, -0.52),
        (-0.66, -0.1),
        (-0.8, -0.3),
        (-0.9, 0.05),
        (-1.04, 0.5),
    ),
    "long hair": (
        (1.06, 1.1),
        (0.9, 0.5),
        (0.88, 0.0),
        (0.6, -0.35),
        (0.1, -0.78),
        (-0.1, -0.78),
        (-0.6, -0.35),
        (-0.88, 0.0),
        (-0.9, 0.5),
        (-1.06, 1.1),
    ),
    "twintails": (
        (1.0, 0.35),
        (0.88, -0.1),
        (0.62, -0.18),
        (0.4, -0.5),
        (0.0, -0.14),
        (-0.4, -0.5),
        (-0.62, -0.18),
        (-0.88, -0.1),
        (-1.0, 0.35),
    ),
    "ponytail": (
        (1.0, 0.4),
        (0.86, -0.1),
        (0.6, -0.62),
        (0.1, -0.34),
        (-0.5, -0.12),
        (-0.84, 0.04),
        (-1.0, 0.5),
    ),
    "bob cut": (
        (1.06, 1.06),
        (0.76, 0.98),
        (0.86, 0.3),
        (0.84, -0.2),
        (0.5, -0.24),
        (0.0, -0.2),
        (-0.5, -0.24),
        (-0.84, -0.2),
        (-0.86, 0.3),
        (-0.76, 0.98),
        (-1.06, 1.06),
    ),
    "spiky hair": (
        (1.1, 0.4),
        (0.86, -0.1),
        (0.66, -0.4),
        (0.5, 0.0),
        (0.28, -0.46),
        (0.04, 0.02),
        (-0.2, -0.46),
        (-0.44, 0.0),
        (-0.62, -0.4),
        (-0.86, -0.1),
        (-1.1, 0.4),
    ),
    "braid": (
        (1.02, 0.6),
        (0.9, 0.0),
        (0.5, -0.62),
        (0.24, -0.74),
        (-0.3, -0.3),
        (-0.84, 0.0),
        (-1.02, 0.6),
    ),
}
# Dome behind and around the head: right half from the crown down.
DOMES: dict[str, Points] = {
    "short hair": ((0.6, -1.14), (1.14, -0.5), (1.2, 0.1), (1.04, 0.62), (0.5, 0.8)),
    "long hair": ((0.6, -1.18), (1.18, -0.5), (1.26, 0.4), (1.36, 1.6), (1.3, 2.6), (0.7, 2.85)),
    "twintails": ((0.6, -1.14), (1.12, -0.5), (1.12, 0.1), (0.9, 0.6)),
    "ponytail": ((0.6, -1.14), (1.12, -0.5), (1.12, 0.1), (0.9, 0.6)),
    "bob cut": ((0.6, -1.18), (1.2, -0.55), (1.32, 0.3), (1.28, 0.95), (0.9, 1.16)),
    "braid": ((0.6, -1.14), (1.14, -0.5), (1.16, 0.2), (1.0, 0.8), (0.5, 0.9)),
}
SPIKES: Points = (
    (0.2, -1.3),
    (0.5, -1.78),
    (0.74, -1.15),
    (1.36, -1.36),
    (1.12, -0.66),
    (1.64, -0.42),
    (1.16, 0.0),
    (1.5, 0.46),
    (0.98, 0.5),
    (0.98, 0.98),
    (0.5, 0.7),
)
DOME_ARC = tuple(
    (1.13 * math.cos(a), 0.02 + 1.16 * math.sin(a))
    for a in (math.radians(degree) for degree in range(180, 361, 15))
)
# Where the side lock ends in profile.
LOCKS: dict[str, float] = {
    "short hair": 0.5,
    "long hair": 1.3,
    "twintails": 0.3,
    "ponytail": 0.35,
    "bob cut": 1.05,
    "spiky hair": 0.45,
    "braid": 0.6,
}
TAIL: Points = (
    (0.95, -0.65),
    (1.4, -0.85),
    (1.9, -0.2),
    (1.95, 0.8),
    (1.6, 1.75),
    (1.45, 1.0),
    (1.3, 0.2),
)
HIGH_TAIL: Points = (
    (-0.5, -1.0),
    (-0.75, -1.6),
    (-1.4, -1.5),
    (-1.85, -0.6),
    (-1.85, 0.6),
    (-1.45, 1.5),
    (-1.35, 0.5),
    (-1.2, -0.5),
)
HAIR_TIE = (250, 96, 120)
EAR_PINK = (255, 176, 186)
HORN = (236, 214, 160)


def draw_back_hair(pen: Pen, toon: Toon) -> None:
    """Everything behind the body: the dome and tails."""
    style = toon.hair_style
    color = pen.dark(COLORS["hair_color"][toon.hair_color], 0.0 if style == "spiky hair" else 0.14)
    shift = -0.16 if toon.view == "from side" else 0.0
    half = SPIKES if style == "spiky hair" else DOMES[style]
    outline = mirrored(half) if style == "spiky hair" else smooth(mirrored(half))
    if style == "ponytail":
        pen.shape(smooth(tuple(HIGH_TAIL)), color)
    if style == "twintails":
        for side in (-1,) if toon.view == "from side" else (-1, 1):
            pen.shape(tuple((side * x, y) for x, y in smooth(tuple(TAIL))), color)
    pen.shape([(x + shift, y) for x, y in outline], color)


def draw_front_hair(pen: Pen, toon: Toon, light: int) -> None:
    """Fringe, locks, highlight, hair ties and a braid."""
    color, style = COLORS["hair_color"][toon.hair_color], toon.hair_style
    if toon.view == "from side":
        low = LOCKS[style]
        edge: Points = (
            (0.98, -0.2),
            (0.84, 0.02),
            (0.7, -0.38),
            (0.5, -0.08),
            (0.36, -0.4),
            (0.14, 0.1),
            (0.07, low),
            (-0.3, low + 0.14),
            (-0.95, min(low, 0.9)),
        )
        dome = [(x - 0.06 if x < 0.5 else x - 0.1, y) for x, y in DOME_ARC[:-1]]
    else:
        turn = 0.16 if toon.view == "three-quarter view" else 0.0
        edge = [(x + turn * (1 - abs(x)) if abs(x) < 1 else x, y) for x, y in FRINGES[style]]
        dome = list(DOME_ARC)
    pen.patch([*dome, *edge], color, edge)
    if toon.accent != "none":
        _dyed_lock(pen, toon)
    glint = mix(color, WHITE, 0.45)
    x = -0.42 * light * pen.facing
    if pen.ink.shade:
        pen.stroke([(x - 0.3, -0.66), (x, -0.78), (x + 0.3, -0.74)], 0.13, glint, 0)
    if style == "twintails":
        for side in (-1,) if toon.view == "from side" else (-1, 1):
            pen.oval(side * 1.12, -0.62, 0.2, 0.2, HAIR_TIE, True)
    elif style == "ponytail":
        pen.oval(-0.72, -1.08, 0.24, 0.2, HAIR_TIE, True)
    elif style == "braid":
        _braid(pen, color, -0.25 if toon.view == "from side" else 1.0)


def _dyed_lock(pen: Pen, toon: Toon) -> None:
    """A broad lock beside the face, from under the headwear to the shoulder, in the accent
    colour."""
    x = 0.0 if toon.view == "from side" else 0.92
    lock = (
        (x - 0.2, -0.82),
        (x + 0.14, -0.7),
        (x + 0.26, 0.0),
        (x + 0.24, 0.8),
        (x + 0.06, 1.3),
        (x - 0.14, 0.8),
    )
    pen.shape(smooth((*lock, (x - 0.2, 0.0))), COLORS["accent"][toon.accent])


def _braid(pen: Pen, color: RGB, x: float) -> None:
    for i in range(5):
        tone = color if i % 2 else pen.dark(color, 0.1)
        pen.oval(x + 0.05 * (-1) ** i, 0.62 + 0.36 * i, 0.3 - 0.02 * i, 0.26, tone, True)
    pen.oval(x, 2.38, 0.17, 0.13, HAIR_TIE, True)
    pen.shape(((x - 0.1, 2.46), (x + 0.1, 2.46), (x + 0.2, 2.8), (x - 0.2, 2.8)), color)


# --- ears and headwear
# -----------------------------------------------------------------------------------------------


def draw_ears(pen: Pen, toon: Toon) -> None:
    """Animal ears and horns; always in front of the headwear."""
    hair = COLORS["hair_color"][toon.hair_color]
    xs = {"looking at viewer": (-1, 1), "three-quarter view": (-1, 1), "from side": (-0.75, 0.35)}[
        toon.view
    ]
    for side in xs:
        sign = 1 if side > 0 else -1
        x = 0.72 * side + (0.1 if toon.view == "three-quarter view" else 0)
        if toon.ears == "cat ears":
            x += 0.06 * sign
            pen.shape(
                ((x - 0.37 * sign, -0.94), (x + 0.26 * sign, -1.76), (x + 0.39 * sign, -0.7)), hair
            )
            pen.shape(
                ((x - 0.17 * sign, -0.98), (x + 0.2 * sign, -1.47), (x + 0.22 * sign, -0.88)),
                EAR_PINK,
                False,
            )
        elif toon.ears == "rabbit ears":
            tip = x + 0.14 * sign
            pen.shape(
                smooth(
                    (
                        (x - 0.22, -0.85),
                        (tip - 0.28, -1.6),
                        (tip, -2.25),
                        (tip + 0.28, -1.6),
                        (x + 0.22, -0.85),
                    )
                ),
                WHITE,
            )
            pen.shape(
                smooth(
                    (
                        (x - 0.08, -1.0),
                        (tip - 0.12, -1.6),
                        (tip, -2.0),
                        (tip + 0.12, -1.6),
                        (x + 0.08, -1.0),
                    )
                ),
                EAR_PINK,
                False,
            )
        elif toon.ears == "horns":
            pen.shape(
                smooth(
                    (
                        (x - 0.2, -0.85),
                        (x + 0.06 * sign, -1.2),
                        (x + 0.1 * sign, -1.72),
                        (x + 0.42 * sign, -1.2),
                        (x + 0.22, -0.78),
                    )
                ),
                HORN,
            )


def _beret(pen: Pen, color: RGB) -> None:
    pen.stroke([(0.12, -1.56), (0.2, -1.76)], 0.14, color)
    pen.shape(
        smooth(
            (
                (-1.08, -0.76),
                (-1.24, -1.12),
                (-0.4, -1.6),
                (0.75, -1.52),
                (1.36, -1.06),
                (1.02, -0.7),
                (0.0, -0.84),
            )
        ),
        color,
    )
    pen.stroke(
        [(-0.92, -0.72), (-0.3, -0.84), (0.3, -0.82), (0.92, -0.66)], 0.16, pen.dark(color, 0.3)
    )


def _witch_hat(pen: Pen, color: RGB) -> None:
    pen.shape(((-0.72, -0.85), (-0.2, -1.6), (0.42, -2.15), (0.36, -1.6), (0.72, -0.85)), color)
    pen.shape(
        smooth(
            (
                (-1.55, -0.66),
                (-0.8, -0.98),
                (0.8, -0.98),
                (1.55, -0.66),
                (0.8, -0.58),
                (-0.8, -0.58),
            )
        ),
        color,
    )
    band = (250, 206, 90) if grey(color) < 190 else (120, 80, 160)
    pen.stroke([(-0.66, -1.02), (0, -0.96), (0.66, -1.02)], 0.2, band)


def _halo(pen: Pen, color: RGB) -> None:
    ring = [
        (0.78 * math.cos(a / 10 * math.pi), -1.55 + 0.24 * math.sin(a / 10 * math.pi))
        for a in range(21)
    ]
    if pen.ink.line and not pen.ink.contour:
        pen.stroke(ring, 0.17 + 2 * pen.line / pen.scale, BLACK)
    pen.stroke(ring, 0.17, color)


def _bow(pen: Pen, color: RGB) -> None:
    for side in (-1, 1):
        pen.shape(
            smooth(
                (
                    (0.0, -1.18),
                    (side * 0.5, -1.62),
                    (side * 0.86, -1.5),
                    (side * 0.82, -0.86),
                    (side * 0.45, -0.86),
                )
            ),
            color,
        )
    pen.oval(0, -1.16, 0.19, 0.22, pen.dark(color, 0.25), True)


def _flower(pen: Pen, color: RGB) -> None:
    for i in range(5):
        a = 2 * math.pi * i / 5 - 0.3
        pen.oval(-0.82 + 0.27 * math.cos(a), -0.58 + 0.27 * math.sin(a), 0.22, 0.22, color, True)
    middle = (220, 100, 60) if color == COLORS["headwear_color"]["yellow"] else (255, 214, 80)
    pen.oval(-0.82, -0.58, 0.17, 0.17, middle)


HEADWEAR: dict[str, Callable[[Pen, RGB], None]] = {
    "beret": _beret,
    "witch hat": _witch_hat,
    "halo": _halo,
    "hair bow": _bow,
    "hair flower": _flower,
}
