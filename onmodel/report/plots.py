"""The page's charts as inline SVG: axes over epochs, reproduction against a bias, losses, strips of
intervals.

Every function is pure: numbers in, Markup out. Colours are classes of the page's style sheet
(`s0`…: stages in order).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.choice import SearchTrial, WeightedScores
from onmodel.evaluate.evaluation import Evaluation, Score
from onmodel.evaluate.headlines import label
from onmodel.report.source import stage_of
from onmodel.report.svg import Scale, element, path, places_of, ticks
from onmodel.text import decimal
from onmodel.train.steps import StepRow

WIDTH, HEIGHT = 270.0, 165.0  # of a small chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 10.0, 22.0
COLOURS = 5
# evaluate/weight_search.py, in the order of the colours
SEARCH_STEPS = ("start", "explore", "repeat")
LOSS_POINTS = 64  # a curve is averaged down to this many points
DOT = 6.0  # half the room a dot takes
LETTER = 6.4  # width of a label's letter
COUNTED = ("epoch", "step")  # have no halves

Interval = tuple[float, float, float]  # low, value, high


@dataclass(frozen=True)
class Dot:
    """A model in a scatter: its two intervals. `marked` models are labelled."""

    name: str
    x: Interval
    y: Interval
    marked: bool


def interval_of(score: Score | None) -> Interval | None:
    """(low, value, high) of a score; None without one."""
    return (score.low, score.value, score.high) if score else None


def epochs(
    axis: Axis, evaluation: Evaluation, stages: Sequence[str], chosen: Sequence[str]
) -> Markup | None:
    """One axis over the epochs of the given train stages, with 95 % bands, control D and the ideal.

    Models in `chosen` are ringed. None when no model of these stages has a value.
    """
    series = {stage: _series(axis, evaluation, stage) for stage in stages}
    found = [point for points in series.values() for point in points]
    if not found:
        return None
    base = evaluation.controls.get("D")
    control = interval_of(base.score(axis.id)) if base else None
    levels = [axis.ideal] + ([control[1]] if control else [])
    last = max(epoch for _, epoch, _ in found)
    x = Scale(0, last * 1.02, LEFT, WIDTH - RIGHT)
    y = Scale.around([v for *_, three in found for v in three] + levels, HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "epoch"), _level(y(axis.ideal), "ideal", "ideal")]
    if control:
        parts.append(_level(y(control[1]), "base D", "control"))
    for index, points in enumerate(series.values()):
        if points:
            parts += _line(index % COLOURS, points, axis, x, y, chosen)
    return _chart(WIDTH, HEIGHT, f"{axis.title} over epochs", parts)


def dose(axis: Axis, rows: Sequence[WeightedScores], chosen: Sequence[str]) -> Markup | None:
    """One axis over the LoRA weight, a curve for each checkpoint with its 95 % band; the chosen
    points are ringed.

    None when no row has a value.
    """
    series: dict[str, list[tuple[str, float, Interval]]] = {row.model: [] for row in rows}
    for row in sorted(rows, key=lambda row: row.weight):
        if three := interval_of(row.score(axis.id)):
            series[row.model].append((row.name, row.weight, three))
    found = [point for points in series.values() for point in points]
    if not found:
        return None
    x = Scale.around([weight for _, weight, _ in found], LEFT, WIDTH - RIGHT)
    y = Scale.around([v for *_, three in found for v in three] + [axis.ideal], HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "weight"), _level(y(axis.ideal), "ideal", "ideal")]
    for index, points in enumerate(series.values()):
        if points:
            parts += _line(index % COLOURS, points, axis, x, y, chosen)
    return _chart(WIDTH, HEIGHT, f"{axis.title} over the LoRA weight", parts)


def scatter(
    x_axis: Axis,
    y_axis: Axis,
    evaluation: Evaluation,
    marked: Sequence[str],
    links: Mapping[str, str] | None = None,
) -> Markup | None:
    """Two axes against each other with both intervals; models that no other beats on both are
    filled.

    None without values. `marked` models are named. `links`: model → address that its dot leads to.
    """
    dots = [
        Dot(row.name, across, up, row.name in marked)
        for row in evaluation.models
        if (across := interval_of(row.score(x_axis.id)))
        and (up := interval_of(row.score(y_axis.id)))
    ]
    if not dots:
        return None
    width, height, left = 410.0, 320.0, 40.0
    x = Scale.around([v for dot in dots for v in dot.x] + [x_axis.ideal], left, width - RIGHT)
    y = Scale.around([v for dot in dots for v in dot.y], height - 38, TOP + 6)
    ideal = element(
        "line", class_="ideal", x1=x(x_axis.ideal), x2=x(x_axis.ideal), y1=TOP, y2=height - 38
    )
    parts = [_frame(x, y, "", width, left), ideal]
    parts.append(element("text", f"{y_axis.title} {y_axis.arrow}", x=0, y=TOP - 6))
    parts.append(
        element(
            "text",
            f"{x_axis.title} {x_axis.arrow}",
            x=width - RIGHT,
            y=height - 6,
            text_anchor="end",
        )
    )
    front = pareto(dots, x_axis, y_axis)
    for dot in sorted(dots, key=lambda dot: (dot.name in front, dot.marked)):
        drawn = _dot(dot, dot.name in front, x_axis, y_axis, x, y)
        if links and dot.name in links:
            drawn = element("a", drawn, href=links[dot.name], aria_label=label(dot.name))
        parts.append(drawn)
    parts += _labels(dots, x, y, (left, width))
    title = f"{y_axis.title} against {x_axis.title}"
    return _chart(width, height, title, parts, "scatter", "group" if links else "img")


def pareto(dots: Sequence[Dot], x_axis: Axis, y_axis: Axis) -> set[str]:
    """Names of the dots that no other dot beats on one axis and equals on the other."""
    costs = {dot.name: (x_axis.cost(dot.x[1]), y_axis.cost(dot.y[1])) for dot in dots}
    found = set()
    for name, (a, b) in costs.items():
        if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in costs.values()):
            found.add(name)
    return found


def losses(stage: str, rows: Sequence[StepRow]) -> Markup | None:
    """Training loss (averaged down) and held-out loss over steps; None without rows."""
    train = [(float(row["step"]), row["loss"]) for row in rows if row.get("loss") is not None]
    heldout = [
        (float(row["step"]), row["heldout"]) for row in rows if row.get("heldout") is not None
    ]
    if not train:
        return None
    curve = _averaged(train)
    x = Scale(0, max(step for step, _ in [*train, *heldout]), LEFT, WIDTH - RIGHT)
    y = Scale.around([loss for _, loss in [*curve, *heldout]], HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "step")]
    parts.append(
        element("path", class_="train", d=path([(x(step), y(loss)) for step, loss in curve]))
    )
    if heldout:
        parts.append(
            element(
                "path", class_="heldout", d=path([(x(step), y(loss)) for step, loss in heldout])
            )
        )
        for step, loss in heldout:
            title = element("title", f"step {step:.0f}: held-out loss {loss:.4f}")
            parts.append(element("circle", title, class_="heldout", cx=x(step), cy=y(loss), r=2.6))
    return _chart(WIDTH, HEIGHT, f"losses of {label(stage)}", parts, "losses")


def search(title: str, trials: Sequence[SearchTrial], expected: Sequence[float]) -> Markup:
    """The measurements of a search in order, coloured by why they were made, each with its
    expectation in the end."""
    values = [trial.value for trial in trials]
    x = Scale(0, len(trials) + 1, LEFT, WIDTH - RIGHT)
    y = Scale.around([*values, *expected], HEIGHT - BOTTOM, TOP)
    parts = [_frame(x, y, "")]
    for number, (trial, value, mean) in enumerate(zip(trials, values, expected, strict=True), 1):
        words = element("title", f"{number}, {trial.why}: {value:.3f}, expected {mean:.3f}")
        colour = f"s{SEARCH_STEPS.index(trial.why)}"
        parts.append(
            element("line", class_="rule", x1=x(number), x2=x(number), y1=y(value), y2=y(mean))
        )
        parts.append(
            element(
                "g",
                element("circle", words, class_="point", cx=x(number), cy=y(value), r=2.8),
                class_=colour,
            )
        )
    return _chart(WIDTH, HEIGHT, f"measurements of {title}", parts)


def strip(place: Interval, ideal: float, width: float = 80.0) -> Markup:
    """An interval on a scale of 0..1: a line with a dot, and a tick where the ideal lies. Hidden to
    screen readers."""
    low, value, high, tick = (3 + (width - 6) * share for share in (*place, ideal))
    return element(
        "svg",
        element("line", class_="track", x1=3, x2=width - 3, y1=5, y2=5),
        element("line", class_="ideal", x1=tick, x2=tick, y1=0.5, y2=9.5),
        element("line", class_="interval", x1=low, x2=high, y1=5, y2=5),
        element("circle", class_="value", cx=value, cy=5, r=2.8),
        class_="strip",
        width=width,
        height=10,
        viewBox=f"0 0 {width:g} 10",
        aria_hidden="true",
    )


def _series(axis: Axis, evaluation: Evaluation, stage: str) -> list[tuple[str, float, Interval]]:
    found = [
        (row.name, float(row.epoch), three)
        for row in evaluation.models
        if stage_of(row.name) == stage
        and row.epoch is not None
        and (three := interval_of(row.score(axis.id)))
    ]
    return sorted(found, key=lambda point: point[1])


def _line(
    index: int,
    points: Sequence[tuple[str, float, Interval]],
    axis: Axis,
    x: Scale,
    y: Scale,
    chosen: Sequence[str],
) -> list[Markup]:
    upper = [(x(epoch), y(high)) for _, epoch, (_, _, high) in points]
    lower = [(x(epoch), y(low)) for _, epoch, (low, _, _) in points]
    parts = [
        element("path", class_=f"band s{index}", d=path(upper + lower[::-1]) + "Z"),
        element(
            "path",
            class_=f"line s{index}",
            d=path([(x(epoch), y(value)) for _, epoch, (_, value, _) in points]),
        ),
    ]
    for name, epoch, (low, value, high) in points:
        title = element("title", f"{label(name)}: {axis.text(value)} ({axis.span(low, high)})")
        ring = " chosen" if name in chosen else ""
        parts.append(
            element(
                "circle",
                title,
                class_=f"point s{index}{ring}",
                cx=x(epoch),
                cy=y(value),
                r=4.4 if ring else 2.6,
            )
        )
    return parts


def _dot(dot: Dot, front: bool, x_axis: Axis, y_axis: Axis, x: Scale, y: Scale) -> Markup:
    (x_low, x_value, x_high), (y_low, y_value, y_high) = dot.x, dot.y
    lines = [
        label(dot.name),
        f"{y_axis.title} {y_axis.text(y_value)} ({y_axis.span(y_low, y_high)})",
        f"{x_axis.title} {x_axis.text(x_value)} ({x_axis.span(x_low, x_high)})",
    ]
    title = element("title", "\n".join(lines))
    return element(
        "g",
        title,
        element("line", x1=x(x_low), x2=x(x_high), y1=y(y_value), y2=y(y_value)),
        element("line", x1=x(x_value), x2=x(x_value), y1=y(y_low), y2=y(y_high)),
        element("circle", cx=x(x_value), cy=y(y_value), r=5.5),
        class_="dot" + " front" * front + " marked" * dot.marked,
    )


def _labels(dots: Sequence[Dot], x: Scale, y: Scale, room: tuple[float, float]) -> list[Markup]:
    """Names of the marked dots: beside, above or below, at the first place where nothing else lies,
    else left out."""
    centres = [(x(dot.x[1]), y(dot.y[1])) for dot in dots]
    taken = [(cx - DOT, cy - DOT, cx + DOT, cy + DOT) for cx, cy in centres]
    texts = []
    for dot, (cx, cy) in zip(dots, centres, strict=True):
        words = label(dot.name)
        wide = LETTER * len(words)
        for left, middle in (
            (cx + 9, cy),
            (cx - 9 - wide, cy),
            (cx - wide / 2, cy - 13),
            (cx - wide / 2, cy + 13),
            (cx + 7, cy - 11),
            (cx + 7, cy + 11),
            (cx - 7 - wide, cy - 11),
            (cx - 7 - wide, cy + 11),
        ):
            box = (left, middle - 6, left + wide, middle + 6)
            if (
                dot.marked
                and left > room[0]
                and left + wide < room[1]
                and not any(_overlap(box, other) for other in taken)
            ):
                taken.append(box)
                beside = left + wide < cx
                texts.append(
                    element(
                        "text",
                        words,
                        class_="name",
                        x=left + wide if beside else left,
                        y=middle + 3.8,
                        text_anchor="end" if beside else "start",
                    )
                )
                break
    return texts


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _frame(x: Scale, y: Scale, x_name: str, width: float = WIDTH, left: float = LEFT) -> Markup:
    """Horizontal rules with their numbers, and the numbers of the x axis after its name."""
    marks_y, marks_x = ticks(y.low, y.high), ticks(x.low, x.high, 5)
    if x_name in COUNTED:
        marks_x = [mark for mark in marks_x if mark == int(mark)]
    foot = y.start + 15
    parts = [element("text", x_name, x=left - 8, y=foot, text_anchor="end")] if x_name else []
    for mark in marks_y:
        parts.append(
            element("line", class_="rule", x1=left, x2=width - RIGHT, y1=y(mark), y2=y(mark))
        )
        parts.append(
            element(
                "text",
                decimal(mark, places_of(marks_y)),
                x=left - 6,
                y=y(mark) + 3.5,
                text_anchor="end",
            )
        )
    for mark in marks_x:
        parts.append(
            element(
                "text", decimal(mark, places_of(marks_x)), x=x(mark), y=foot, text_anchor="middle"
            )
        )
    return element("g", *parts, class_="frame")


def _level(at: float, words: str, class_: str) -> Markup:
    """A line across, named at its left end if it is the ideal, else at the right: two levels may
    coincide."""
    x, anchor = (LEFT + 2, "start") if class_ == "ideal" else (WIDTH - RIGHT - 2, "end")
    return element(
        "g",
        element("line", class_=class_, x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at),
        element("text", words, class_=class_, x=x, y=at - 3.5, text_anchor=anchor),
    )


def _averaged(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means over at most LOSS_POINTS runs of neighbouring points."""
    size = -(-len(points) // LOSS_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = []
    for group in groups:
        x, y = (sum(values) / len(group) for values in zip(*group, strict=True))
        means.append((x, y))
    return means


def _chart(
    width: float,
    height: float,
    title: str,
    parts: Sequence[Markup],
    class_: str = "",
    role: str = "img",
) -> Markup:
    return element(
        "svg",
        *parts,
        class_=f"chart {class_}".strip(),
        viewBox=f"0 0 {width:g} {height:g}",
        role=role,
        aria_label=title,
    )
