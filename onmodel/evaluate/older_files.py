"""Files of evaluations of older forms, and of those that said no number of their form."""

from pydantic import ValidationError

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.details import DETAILS


def as_schema_1(table: dict) -> dict:
    """A file without a number in form 1.

    It may lack what was added over time, and name prompts that tell nothing with None. Details of
    another form are left out: no number follows from them.
    """
    rows = [*table["models"], *table["controls"].values()]
    fixed = {id(row): _row_as_schema_1(row) for row in rows}
    return {
        **table,
        "plan": {"training": "", **table["plan"]},
        "observers": table.get("observers", {}),
        "models": [fixed[id(row)] for row in table["models"]],
        "controls": {arm: fixed[id(row)] for arm, row in table["controls"].items()},
    }


def with_margins(table: dict) -> dict:
    """A file of a form before 4: its axes get the margins of trainings that were measured since,
    where they are of the version that those hold for."""
    axes = dict(table["axes"])
    for id, row in axes.items():
        known = AXES.get(id)
        if known is not None and row.get("version") == known[0].version:
            axes[id] = {**row, "retraining": known[0].retraining}
    return {**table, "axes": axes}


def _said(values: dict) -> dict:
    return {prompt: value for prompt, value in values.items() if value is not None}


def _row_as_schema_1(row: dict) -> dict:
    per_prompt = {axis: _said(values or {}) for axis, values in row["per_prompt"].items()}
    details = {
        axis: told for axis, told in row.get("details", {}).items() if _is_readable(axis, told)
    }
    return {**row, "per_prompt": per_prompt, "details": details}


def _is_readable(axis: str, told: object) -> bool:
    try:
        if axis in DETAILS:
            DETAILS[axis].validate_python(told)
    except ValidationError:
        return False
    return True
