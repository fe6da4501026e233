"""The face: eyes, brows, mouth, glasses; each expression is a row of a table. Figure coordinates as
in pen.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onmodel.toon.attributes import COLORS, Toon
from onmodel.toon.pen import BLACK, WHITE, Pen, Point, mirrored, mix, smooth

SKIN = COLORS["fixed"]["skin"]
FACE = smooth(mirrored(((0.5, -0.95), (0.98, -0.3), (0.97, 0.25), (0.72, 0.74), (0.26, 1.0))))
PROFILE = smooth(
    (
        (-0.6, -0.9),
        (0.5, -0.95),
        (0.92, -0.3),
        (0.93, 0.1),
        (1.1, 0.36),
        (0.95, 0.5),
        (0.9, 0.8),
        (0.6, 1.0),
        (0.0, 0.85),
        (-0.7, 0.5),
    )
)

# expression → brow (inner y, outer y, width), eye openness, iris size, mouth
LOOKS: dict[str, tuple[Point, float, float, str]] = {
    "expressionless": ((-0.34, -0.34), 0.9, 1.0, "line"),
    "smile": ((-0.46, -0.40), 1.0, 1.0, "smile"),
    "sad": ((-0.58, -0.24), 0.92, 1.0, "frown"),
    "angry": ((-0.10, -0.50), 0.88, 0.95, "teeth"),
    "surprised": ((-0.62, -0.58), 1.16, 0.64, "round"),
    "wink": ((-0.46, -0.40), 1.0, 1.0, "grin"),
}


def _mouth(pen: Pen, kind: str, x: float, k: float) -> None:
    """A mouth centred on x, narrowed by k."""
    red, dark = (214, 76, 84), (96, 28, 44)
    if kind == "line":
        pen.stroke([(x - 0.2 * k, 0.7), (x + 0.2 * k, 0.7)], 0.09, dark)
    elif kind == "frown":
        arc = [(x - 0.24 * k, 0.8), (x - 0.12 * k, 0.68), (x + 0.12 * k, 0.68), (x + 0.24 * k, 0.8)]
        pen.stroke(arc, 0.1, dark)
    elif kind == "round":
        pen.oval(x, 0.71, 0.17 * k, 0.21, dark)
        pen.oval(x, 0.78, 0.11 * k, 0.1, red)
    elif kind == "teeth":
        pen.shape(
            [(x - 0.22 * k, 0.6), (x + 0.22 * k, 0.6), (x + 0.32 * k, 0.84), (x - 0.32 * k, 0.84)],
            dark,
            False,
        )
        pen.shape(
            [(x - 0.2 * k, 0.66), (x + 0.2 * k, 0.66), (x + 0.24 * k, 0.77), (x - 0.24 * k, 0.77)],
            WHITE,
            False,
        )
    else:
        wide = 0.36 if kind == "smile" else 0.28
        pen.shape(
            smooth(
                (
                    (x - wide * k, 0.57),
                    (x, 0.62),
                    (x + wide * k, 0.57),
                    (x + 0.2 * k, 0.82),
                    (x, 0.88),
                    (x - 0.2 * k, 0.82),
                )
            ),
            dark,
            False,
        )
        pen.oval(x, 0.78, 0.15 * k, 0.08, red)


def _eye(pen: Pen, toon: Toon, x: float, side: int, k: float) -> None:
    """One eye centred on x, narrowed by k; `side` tells outwards."""
    _, openness, size, _ = LOOKS[toon.expression]
    color, lash = COLORS["eye_color"][toon.eye_color], (44, 34, 52)
    y, rx, ry = 0.2, 0.28 * k, 0.37 * openness
    if toon.expression == "wink" and side == 1:
        pen.stroke(
            [(x - 0.28 * k, 0.3), (x - 0.12 * k, 0.13), (x + 0.12 * k, 0.13), (x + 0.28 * k, 0.3)],
            0.12,
            lash,
        )
        return
    pen.oval(x, y, rx * 1.06, ry, WHITE, toon.style != "pixel art")
    if toon.style != "pixel art":  # a pixel is too coarse for a rim
        pen.oval(x, y + 0.01, rx * 0.92 * size, ry * 0.95 * size, mix(color, BLACK, 0.35))
    pen.oval(x, y + 0.06, rx * 0.86 * size, ry * 0.8 * size, color)
    pen.oval(x, y, rx * 0.34 * size, ry * 0.42 * size, (24, 18, 30))
    pen.oval(x - 0.09 * k, y - 0.14, rx * 0.3, ry * 0.26, WHITE)
    inner = 0.5 if toon.expression == "angry" else 0.82
    pen.stroke(
        [
            (x - 0.95 * rx * side, y - ry * inner),
            (x - 0.3 * rx * side, y - ry * 1.0),
            (x + 0.5 * rx * side, y - ry * 0.98),
            (x + 1.15 * rx * side, y - ry * 0.6),
        ],
        0.11,
        lash,
    )


# view → (x, side, narrowing) of each eye, mouth x, mouth narrowing
FEATURES: dict[str, tuple[tuple[tuple[float, int, float], ...], float, float]] = {
    "looking at viewer": (((-0.45, -1, 1.0), (0.45, 1, 1.0)), 0.0, 1.0),
    "three-quarter view": (((-0.14, -1, 1.0), (0.66, 1, 0.74)), 0.3, 0.9),
    "from side": (((0.58, 1, 0.74),), 0.72, 0.6),
}


def draw_brows(pen: Pen, toon: Toon) -> None:
    """Brows, drawn over the fringe as cartoons do, so that the expression stays readable."""
    inner, outer = LOOKS[toon.expression][0]
    hair = mix(COLORS["hair_color"][toon.hair_color], (40, 24, 50), 0.74)
    for x, side, k in FEATURES[toon.view][0]:
        pen.stroke([(x - 0.24 * k * side, inner), (x + 0.28 * k * side, outer)], 0.13, hair)


def draw_face(pen: Pen, toon: Toon) -> None:
    """Face, eyes, brows, mouth, blush, tear and glasses."""
    side_view = toon.view == "from side"
    pen.shape(PROFILE if side_view else FACE, SKIN)
    eyes, x, k = FEATURES[toon.view]
    for ex, side, ek in eyes:
        if toon.expression in ("smile", "wink", "surprised"):
            pen.oval(
                ex + 0.12 * side - (0.15 if side_view else 0), 0.62, 0.2 * ek, 0.1, (255, 176, 168)
            )
    _mouth(pen, LOOKS[toon.expression][3], x, k)
    for ex, side, ek in eyes:
        _eye(pen, toon, ex, side, ek)
    if toon.expression == "sad":
        tx = eyes[0][0] + 0.26 * eyes[0][1] * (-1 if side_view else 1)
        pen.shape(
            smooth(((tx, 0.46), (tx + 0.13, 0.78), (tx, 0.9), (tx - 0.13, 0.78))), (96, 184, 255)
        )
    if toon.glasses == "glasses":
        _glasses(pen, eyes)


def _glasses(pen: Pen, eyes: Sequence[tuple[float, int, float]]) -> None:
    frame = (196, 40, 60)
    for x, _, k in eyes:
        ring = [
            (x + 0.41 * k * math.cos(a / 8 * math.pi), 0.24 + 0.4 * math.sin(a / 8 * math.pi))
            for a in range(17)
        ]
        pen.stroke(ring, 0.1, frame)
    left, right = eyes[0], eyes[-1]
    bridge = [(left[0] + 0.41 * left[2], 0.2), (right[0] - 0.41 * right[2], 0.2)]
    pen.stroke(bridge if len(eyes) > 1 else [(left[0] - 0.3, 0.2), (-0.1, 0.1)], 0.1, frame)
