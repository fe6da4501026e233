"""The validity table as Markdown."""

from collections.abc import Sequence

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.selftest.check import DOSES, CheckRow
from onmodel.evaluate.selftest.faults import PLANTED

COLUMNS = (
    "axis",
    "planted fault",
    "alive",
    "twins p",
    "at least",
    "found [95 %]",
    "loudest neighbour",
    f"dose 0, {', '.join(f'{dose:g}' for dose in DOSES)}",
    "null (p)",
    "JPEG",
    "fails",
)


def table(seed: int, rows: Sequence[CheckRow]) -> str:
    """One line for every axis and fault that it must find, and a sentence about what does not
    hold."""
    lines = [f"Seed {seed}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        doses = " ".join(f"{value:.3g}" for value in row.doses)
        neighbour, moved = row.loudest
        cells = (
            f"`{row.axis}`",
            PLANTED[row.fault].words,
            f"{row.alive:.2f}",
            f"{row.twins_p:.2f}",
            f"{row.expected:g}",
            f"{row.found:.3g} [{row.low:.3g}, {row.high:.3g}]",
            f"{neighbour} {moved:+.2f}",
            doses,
            f"{row.null:+.2f} ({row.null_p:.2f})",
            f"{row.jpeg:+.2f}",
            ", ".join(row.failed) or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    failing = sum(bool(row.failed) for row in rows)
    untested = sorted(set(AXES) - {row.axis for row in rows})
    told = f"{len(rows) - failing} of {len(rows)} rows hold in every column."
    return "\n".join(
        [
            *lines,
            "",
            told + (f" Without a planted fault: {', '.join(untested)}." if untested else ""),
        ]
    )
