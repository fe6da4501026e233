"""Plans of recipes, kept until the recipe's file changes: a plan scans folders of pictures."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from onmodel.engine.plan import Step, make_plan
from onmodel.recipe import load_recipe


def planned(recipe: Path) -> Sequence[Step]:
    """The plan of a recipe. Raises InputError where the recipe is wrong."""
    return _planned(recipe, recipe.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _planned(recipe: Path, changed: int) -> tuple[Step, ...]:
    return tuple(make_plan(load_recipe(recipe)))
