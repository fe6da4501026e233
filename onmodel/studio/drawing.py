"""Pictures drawn now, by a worker that keeps the base in memory until another recipe, or an edited
one, is drawn with. They lie in WORKSPACE/.studio/drawn, which no run writes to."""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

from onmodel.errors import InputError, StateError
from onmodel.studio.workspace import CharacterFolder


class Drawing:
    """At most one worker at a time: two bases may not fit. Every method may be called from any
    thread; requests wait for each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._loaded: tuple[Path, int] | None = None  # the recipe and when it was changed

    def draw(self, character: CharacterFolder, folder: Path, request: str) -> str:
        """Send a request to the worker of a character's recipe, which draws into the cache
        `folder`; returns its answer (worker.py).
        Raises InputError without a recipe, StateError when the worker ended."""
        if character.recipe is None:
            raise InputError("draw", character.name, "its recipe is not in this workspace")
        with self._lock:
            wanted = character.recipe, character.recipe.stat().st_mtime_ns
            ended = self._process is None or self._process.poll() is not None
            if ended or self._loaded != wanted:
                self._end()
                self._process = subprocess.Popen(
                    [*_COMMAND, str(character.recipe), str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                self._loaded = wanted
            assert self._process is not None
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(request + "\n")
                self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                self._end()
                raise StateError(
                    character.recipe, "the drawing process ended; the terminal says why"
                )
            return answer

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process = None


_COMMAND = (sys.executable, "-m", "onmodel.studio.worker")
