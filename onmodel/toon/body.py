"""The body: proportions, poses, clothes, and what is worn at the neck. Figure coordinates as in
pen.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onmodel.toon.attributes import COLORS, RGB, Toon
from onmodel.toon.pen import WHITE, Pen, Point, Variation, mirrored, mix, smooth

SKIN, SHIRT = COLORS["fixed"]["skin"], COLORS["fixed"]["shirt"]
DARK_CLOTH = (58, 58, 84)


@dataclass(frozen=True)
class Body:
    """Proportions in head radii: shoulder half width, heights of waist, hip and sole, arm length
    and thickness."""

    w: float
    waist: float
    hip: float
    foot: float
    arm: float
    thick: float


BODIES: dict[str, Body] = {
    "normal": Body(0.74, 2.15, 2.85, 5.1, 1.6, 0.46),
    "chibi": Body(0.66, 1.7, 2.1, 3.05, 1.0, 0.44),
    "tall": Body(0.82, 2.5, 3.45, 7.3, 2.3, 0.46),
}

# pose → (angle of upper arm, angle of forearm) for the right and the left arm of the picture, in
# degrees from straight down, outwards positive
ARMS: dict[str, tuple[Point, Point]] = {
    "standing": ((22, 10), (22, 10)),
    "arms up": ((118, 168), (118, 168)),
    "hand on hip": ((58, -62), (22, 10)),
    "waving": ((96, 172), (22, 10)),
}
SHOULDER_Y = 1.42


def arms_of(toon: Toon, body: Body, var: Variation) -> list[tuple[Point, Point, Point]]:
    """Shoulder, elbow and hand of each arm."""
    arms = []
    for side, (upper, fore) in zip((1, -1), ARMS[toon.pose], strict=True):
        # short arms could not reach above the shoulders' level beside a big head
        length = max(body.arm, 1.5) if upper > 90 else body.arm
        if toon.view == "from side" and side == -1 and upper < 90:
            continue  # behind the body
        x, y = (-0.08 if toon.view == "from side" else side * (body.w - 0.1)), SHOULDER_Y
        joints: list[Point] = [(x, y)]
        for angle in (math.radians(upper) + var.arm * 0.6, math.radians(fore) + var.arm):
            x, y = x + side * math.sin(angle) * length / 2, y + math.cos(angle) * length / 2
            joints.append((x, y))
        arms.append(tuple(joints))
    return arms  # type: ignore[return-value]


def _between(a: Point, b: Point, t: float) -> Point:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t)


def _flare(elbow: Point, hand: Point, near: float, far: float, beyond: float) -> tuple[Point, ...]:
    """A widening sleeve from the elbow to past the hand."""
    dx, dy = hand[0] - elbow[0], hand[1] - elbow[1]
    length = math.hypot(dx, dy) or 1.0
    nx, ny, end = -dy / length, dx / length, _between(elbow, hand, beyond)
    return (
        (elbow[0] + nx * near, elbow[1] + ny * near),
        (end[0] + nx * far, end[1] + ny * far),
        (end[0] - nx * far, end[1] - ny * far),
        (elbow[0] - nx * near, elbow[1] - ny * near),
    )


def draw_arm(pen: Pen, toon: Toon, body: Body, arm: tuple[Point, Point, Point]) -> None:
    """One arm in its sleeve, with the hand where the sleeve leaves it free, and the accent's
    cuff."""
    _draw_sleeve(pen, toon, body, arm)
    if toon.accent != "none":
        _, elbow, hand = arm
        wide, start = (1.05, 0.9) if toon.outfit in ("jacket", "kimono") else (0.56, 0.5)
        ends = _between(elbow, hand, start), _between(elbow, hand, start + 0.36)
        pen.shape(
            _flare(*ends, body.thick * wide, body.thick * wide, 1.0), COLORS["accent"][toon.accent]
        )


def _draw_sleeve(pen: Pen, toon: Toon, body: Body, arm: tuple[Point, Point, Point]) -> None:
    shoulder, elbow, hand = arm
    thick, outfit, color = body.thick, toon.outfit, COLORS["outfit_color"][toon.outfit_color]
    if outfit == "jacket":
        # oversized: the sleeve ends past the hand
        pen.limb([shoulder, elbow], thick * 1.15, color)
        pen.shape(_flare(elbow, hand, thick * 0.58, thick * 1.1, 1.3), color)
        cuff_start, cuff_end = _between(elbow, hand, 1.12), _between(elbow, hand, 1.3)
        trim = (120, 150, 214) if toon.outfit_color == "white" else WHITE
        pen.shape(_flare(cuff_start, cuff_end, thick, thick * 1.12, 1.0), trim)
        return
    pen.limb([elbow, hand], thick * 0.72, SKIN)
    pen.oval(*hand, thick * 0.46, thick * 0.46, SKIN, True)
    if outfit in ("t-shirt", "dress"):
        pen.limb([shoulder, elbow, _between(elbow, hand, 0.2)], thick * 0.72, SKIN)
        puff = 1.35 if outfit == "dress" else 1.15
        pen.limb([shoulder, _between(shoulder, elbow, 0.6)], thick * puff, color)
    elif outfit == "kimono":
        pen.shape(
            _flare(_between(shoulder, elbow, 0.2), hand, thick * 0.5, thick * 1.25, 0.86), color
        )
    else:
        cuff = _between(elbow, hand, 0.8)
        pen.limb([shoulder, elbow, cuff], thick, color)
        if outfit == "school uniform":
            pen.limb([_between(elbow, hand, 0.66), cuff], thick, SHIRT)


def _legs(pen: Pen, toon: Toon, body: Body, narrow: float) -> None:
    stockings = toon.outfit in ("jacket", "school uniform")
    trousers = toon.outfit in ("t-shirt", "hoodie")
    gap = body.w * 0.46 * narrow
    for side in (-1, 1):
        x, knee = side * gap, (body.hip + body.foot) / 2
        pen.limb(
            [(x, body.hip - 0.2), (x, body.foot - 0.2)],
            0.5,
            COLORS["fixed"]["trousers"] if trousers else SKIN,
        )
        if stockings:
            pen.limb([(x, knee - 0.1), (x, body.foot - 0.2)], 0.5, DARK_CLOTH)
        pen.oval(
            x + 0.1 * (1 if narrow < 1 else side),
            body.foot - 0.16,
            0.36,
            0.2,
            COLORS["fixed"]["shoes"],
            True,
        )


@dataclass(frozen=True)
class Fit:
    """What every garment needs: the pen, the body as seen from this side, and the colour."""

    pen: Pen
    body: Body
    narrow: float  # width factor of the view
    turn: float  # how far the chest's middle lies towards the facing side
    name: str  # of the colour

    @property
    def w(self) -> float:
        return self.body.w * self.narrow

    @property
    def color(self) -> RGB:
        return COLORS["outfit_color"][self.name]

    @property
    def shade(self) -> RGB:
        return self.pen.dark(self.color, 0.22)

    def trunk(self, hem: float, flare: float, narrow: float = 1.0) -> tuple[Point, ...]:
        """A garment from the neck over the waist to its hem, `flare` half wide there."""
        narrow *= self.narrow
        w = self.body.w * narrow
        return mirrored(
            (
                (0.26 * narrow, 1.0),
                (w * 0.86, 1.18),
                (w, 1.5),
                (w * 0.92, self.body.waist),
                (flare * narrow, hem),
            )
        )


def _t_shirt(fit: Fit) -> None:
    pen, w = fit.pen, fit.w
    pen.shape(fit.trunk(fit.body.hip, fit.body.w), fit.color)
    stripe = mix(fit.color, WHITE, 0.72)
    pen.shape(
        [(-w * 0.95, 1.75), (w * 0.95, 1.75), (w * 0.93, 2.1), (-w * 0.93, 2.1)], stripe, False
    )
    pen.oval(fit.turn, 1.1, 0.4 * fit.narrow, 0.22, SKIN, True)


def _hoodie(fit: Fit) -> None:
    pen, w, x, hip = fit.pen, fit.w, fit.turn, fit.body.hip
    pen.shape(fit.trunk(hip, fit.body.w), fit.color)
    pen.shape(
        smooth(((-w, 1.25), (0, 1.0), (w, 1.25), (0.5, 1.62), (0, 1.7), (-0.5, 1.62))), fit.shade
    )
    for dx in (-0.16, 0.16):
        pen.stroke([(dx + x, 1.6), (dx + x, 2.1)], 0.1, WHITE)
    pocket = [
        (x - 0.4, hip - 0.6),
        (x + 0.4, hip - 0.6),
        (x + 0.54, hip - 0.15),
        (x - 0.54, hip - 0.15),
    ]
    pen.shape(pocket, fit.shade)


def _dress(fit: Fit) -> None:
    pen, w, waist = fit.pen, fit.w, fit.body.waist
    pen.shape(fit.trunk(fit.body.hip + 0.75, fit.body.w + 0.5), fit.color)
    sash = [
        (-w * 0.95, waist - 0.12),
        (w * 0.95, waist - 0.12),
        (w * 0.97, waist + 0.12),
        (-w * 0.97, waist + 0.12),
    ]
    pen.shape(sash, WHITE)
    for side in (-1, 1):
        pen.oval(fit.turn + side * 0.26 * fit.narrow, 1.3, 0.3 * fit.narrow, 0.2, WHITE, True)


def _school_uniform(fit: Fit) -> None:
    pen, w, x, body = fit.pen, fit.w, fit.turn, fit.body
    pen.shape(
        mirrored(((w * 0.9, body.waist), (w + 0.34, body.hip + 0.45))), pen.dark(fit.color, 0.4)
    )
    pen.shape(fit.trunk(body.waist + 0.15, body.w * 0.95), fit.color)
    collar = (
        (x - w * 0.95, 1.16),
        (x + w * 0.95, 1.16),
        (x + w * 0.72, 1.62),
        (x + 0.06, 2.0),
        (x - 0.06, 2.0),
        (x - w * 0.72, 1.62),
    )
    pen.shape(collar, WHITE)
    pen.shape(((x - 0.28, 1.1), (x + 0.28, 1.1), (x, 1.6)), SKIN)


def _kimono(fit: Fit) -> None:
    pen, w, x, waist = fit.pen, fit.w, fit.turn, fit.body.waist
    pen.shape(fit.trunk(fit.body.foot - 0.4, fit.body.w * 0.95), fit.color)
    pen.stroke([(x + 0.34, 1.02), (x - 0.3, waist - 0.2)], 0.2, WHITE)
    pen.stroke([(x - 0.34, 1.02), (x + 0.3, waist - 0.2)], 0.2, WHITE)
    obi = (200, 70, 70) if fit.name == "yellow" else (250, 214, 96)
    pen.shape([(-w, waist - 0.25), (w, waist - 0.25), (w, waist + 0.3), (-w, waist + 0.3)], obi)


def _jacket(fit: Fit) -> None:
    pen, w, body = fit.pen, fit.w, fit.body
    pen.shape(mirrored(((w * 0.9, body.waist + 0.2), (w + 0.2, body.hip + 0.4))), DARK_CLOTH)
    pen.shape(fit.trunk(body.hip - 0.2, body.w * 0.8, 0.92), SHIRT)
    for side in (-1, 1):
        inner = fit.turn + side * 0.24 * fit.narrow
        pen.shape(
            [
                (inner, 1.05),
                (side * w * 0.86, 1.14),
                (side * w * 1.12, 1.5),
                (side * w * 1.16, body.hip),
                (inner + side * 0.04, body.hip),
            ],
            fit.color,
        )
        pen.shape(
            [(inner, 1.05), (inner + side * 0.34, 1.08), (inner + side * 0.26, 1.7), (inner, 1.9)],
            fit.shade,
        )


OUTFITS: dict[str, Callable[[Fit], None]] = {
    "t-shirt": _t_shirt,
    "hoodie": _hoodie,
    "dress": _dress,
    "school uniform": _school_uniform,
    "kimono": _kimono,
    "jacket": _jacket,
}


def draw_body(pen: Pen, toon: Toon, body: Body) -> None:
    """Legs and clothes without the arms."""
    narrow = 0.74 if toon.view == "from side" else 1.0
    turn = {"looking at viewer": 0.0, "three-quarter view": 0.12, "from side": 0.3}[toon.view]
    _legs(pen, toon, body, narrow)
    pen.limb([(0, 0.8), (0, 1.25)], 0.44, pen.dark(SKIN))
    OUTFITS[toon.outfit](Fit(pen, body, narrow, turn, toon.outfit_color))


def draw_neck(pen: Pen, toon: Toon) -> None:
    """Ribbon or scarf."""
    if toon.neck == "none":
        return
    color = COLORS["neck_color"][toon.neck_color]
    x = {"looking at viewer": 0.0, "three-quarter view": 0.14, "from side": 0.34}[toon.view]
    if toon.neck == "scarf":
        pen.shape(
            ((x + 0.1, 1.3), (x + 0.58, 1.3), (x + 0.64, 2.15), (x + 0.16, 2.15)), pen.dark(color)
        )
        pen.shape(
            smooth(
                (
                    (-0.8, 1.1),
                    (-0.5, 0.96),
                    (0.5, 0.96),
                    (0.8, 1.1),
                    (0.72, 1.42),
                    (0, 1.56),
                    (-0.72, 1.42),
                )
            ),
            color,
        )
        return
    for side in (-1, 1):
        pen.shape(((x, 1.3), (x + side * 0.36, 1.86), (x + side * 0.1, 1.9)), pen.dark(color))
        pen.shape(((x, 1.26), (x + side * 0.6, 1.0), (x + side * 0.62, 1.52)), color)
    pen.oval(x, 1.27, 0.15, 0.15, color, True)
