"""The hue wheel: how much of each hue a LoRA adds where nobody asked, as wedges on the a*b*
plane."""

import math
from collections.abc import Mapping

from markupsafe import Markup

from onmodel.evaluate.observers.colour import SECTORS
from onmodel.report.svg import element, number
from onmodel.text import decimal

SIZE, ZERO, ROOM = (
    300.0,
    62.0,
    48.0,
)  # of the drawing; radius of "as on the base"; longest wedge, out or in
LABELS = ZERO + ROOM + 18
HALF = math.radians(13.5)  # of a wedge
NAMED = 0.5  # percentage points from which a hue's number is written
# CIELAB at L* 68, C* 62 and the sectors' hues (0°, 30°, …), as near as sRGB comes.
COLOURS = (
    "#ff72a8",
    "#ff7971",
    "#ef8e44",
    "#c3a32b",
    "#8bb33d",
    "#37bc6b",
    "#00c1a4",
    "#00c0dc",
    "#00baff",
    "#00acff",
    "#a697ff",
    "#e97fdf",
)


def wheel(title: str, points: Mapping[str, float], reach: float) -> Markup:
    """Hue → percentage points gained over the base; a wedge of `reach` points is as long as it can
    be.

    Wedges that stand out of the ring are gains, hollow ones that point inwards losses; red is right
    and yellow on top, as in the a*b* plane.
    """
    middle = SIZE / 2
    parts = [
        element("circle", class_="rule", cx=middle, cy=middle, r=ZERO + ROOM),
        element("circle", class_="zero", cx=middle, cy=middle, r=ZERO),
    ]
    for at, (hue, colour) in enumerate(zip(SECTORS, COLOURS, strict=True)):
        value, angle = points[hue], math.radians(30 * at)
        end = ZERO + ROOM * max(-1.0, min(1.0, value / reach))
        words = element("title", f"{hue}: {decimal(value, 1, signed=True)} percentage points")
        look = {"style": f"fill: {colour}"} if value > 0 else {"class_": "loss", "stroke": colour}
        parts.append(element("path", words, d=_wedge(angle, ZERO, end), **look))
        x, y = _place(angle, LABELS)
        lines = [element("tspan", hue, x=x, dy="0")]
        if abs(value) >= NAMED:
            lines.append(
                element("tspan", decimal(value, 1, signed=True), x=x, dy="1.1em", class_="value")
            )
        parts.append(element("text", *lines, x=x, y=y, text_anchor="middle"))
    reached = f"ring: {number(round(reach, 1))} points"
    parts.append(element("text", reached, x=middle, y=middle + 4, text_anchor="middle"))
    return element(
        "svg",
        *parts,
        class_="chart wheel",
        viewBox=f"0 0 {SIZE:g} {SIZE:g}",
        role="img",
        aria_label=title,
    )


def _wedge(angle: float, start: float, end: float) -> str:
    """The outline of a ring's sector between two radii."""
    corners = [
        _place(angle + side * HALF, radius)
        for radius, side in ((start, -1), (start, 1), (end, 1), (end, -1))
    ]
    a, b, c, d = (f"{number(x)} {number(y)}" for x, y in corners)
    inner, outer = number(start), number(end)
    return f"M{a}A{inner} {inner} 0 0 0 {b}L{c}A{outer} {outer} 0 0 1 {d}Z"


def _place(angle: float, radius: float) -> tuple[float, float]:
    return SIZE / 2 + radius * math.cos(angle), SIZE / 2 - radius * math.sin(angle)
