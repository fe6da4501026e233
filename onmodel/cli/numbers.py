"""What number options have in common."""

import math

import typer


def finite(value: float | None) -> float | None:
    """Refuse nan and the infinities: nan passes every range, and a run would fail on it late. An
    option's callback."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number to work with.")
    return value
