"""What the doctor finds in a character's recipe, before it is run."""

import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.errors import InputError, StateError
from onmodel.events import Finding
from onmodel.studio.workspace import CharacterFolder

SECONDS = 600.0  # that a doctor may take; it reads every picture of a data set


@dataclass
class Checks:
    """One doctor at a time, since each imports torch. Findings are kept while the recipe's text
    stays. Every method may be called from any thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: dict[Path, tuple[bytes, list[Finding]]] = field(default_factory=dict)

    def findings(self, character: CharacterFolder, anew: bool) -> list[Finding]:
        """The findings; `anew` asks the doctor again. Raises InputError without a recipe, and
        StateError when the doctor fails."""
        if character.recipe is None:
            raise InputError("check", character.name, "its recipe is not in this workspace")
        with self._lock:
            recipe, text = character.recipe, character.recipe.read_bytes()
            before = self._kept.get(recipe)
            if anew or before is None or before[0] != text:
                self._kept[recipe] = text, _examined(recipe)
            return self._kept[recipe][1]

    def planned_bytes(self, character: CharacterFolder) -> dict[str, int]:
        """Stage → memory that the last check of the recipe, as it is, forecast; nothing is
        checked."""
        recipe = character.recipe
        before = self._kept.get(recipe) if recipe else None
        if recipe is None or before is None or before[0] != recipe.read_bytes():
            return {}
        return {row.stage: row.bytes for row in before[1] if row.stage}


def _examined(recipe: Path) -> list[Finding]:
    command = [sys.executable, "-m", "onmodel", "doctor", str(recipe), "--json"]
    try:
        ended = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=SECONDS, cwd=recipe.parent
        )
    except subprocess.TimeoutExpired:
        remedy = f"the check took more than {SECONDS:.0f} s; run `onmodel doctor` at a terminal"
        raise StateError(recipe, remedy) from None
    try:
        return [Finding(**row) for row in json.loads(ended.stdout)]
    except ValueError:
        lines = ended.stderr.strip().splitlines() or ["it printed nothing"]
        raise StateError(recipe, f"could not be checked ({lines[-1]})") from None
