"""Writing SVG as text: elements, numbers, ticks, a linear scale. Colours and fonts are the page's
style sheet's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from onmodel.text import printable


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element; text is escaped, Markup kept. `class_` writes `class`, `stroke_width` writes
    `stroke-width`.

    XML allows no control characters; they become visible escapes.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(number(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(
        child if isinstance(child, Markup) else printable(child) for child in children
    )
    return Markup(f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>")


def number(value: str | float) -> str:
    """Coordinates with at most two decimals, so that pages are small and the same everywhere."""
    if isinstance(value, str):
        return value
    text = _trim(f"{value:.2f}")
    return "0" if text == "-0" else text


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def path(points: Sequence[tuple[float, float]]) -> str:
    """The `d` of an open polyline."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that lie within low..high, some `about` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [
        round((first + i) * step, 10) for i in range(math.floor(high / step + 1e-9) - first + 1)
    ]


def places_of(marks: Sequence[float]) -> int:
    """How many decimals a list of ticks needs."""
    return max((len(_trim(f"{mark:.4f}").partition(".")[2]) for mark in marks), default=0)


@dataclass(frozen=True)
class Scale:
    """From data `low..high` to pixels `start..end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, margin: float = 0.06
    ) -> "Scale":
        """A scale over the values with some air; never of zero width."""
        low, high = min(values), max(values)
        air = (high - low) * margin or abs(high) * 0.1 or 0.5
        return cls(low - air, high + air, start, end)
