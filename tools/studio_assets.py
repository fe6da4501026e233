"""Install the scripts and styles of other projects that the studio's pages use.

.venv/bin/python tools/studio_assets.py [--tests]

Versions and SHA-512 hashes stand in onmodel/studio/npm/package-lock.json; npm checks them. The
files and their licences go to onmodel/studio/static/vendor/. Building a wheel calls this and puts
them into it, so that whoever installs the wheel needs neither npm nor a network.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:  # the class that a build calls; it is not installed outside one
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:
    BuildHookInterface = object

STUDIO = Path(__file__).resolve().parent.parent / "onmodel" / "studio"
VENDOR = STUDIO / "static" / "vendor"
AXE = STUDIO.parents[1] / "tests" / "studio" / "axe.min.js"  # accessibility; never shipped
FILES = {
    "htmx.org": ("dist/htmx.min.js", "LICENSE"),
    "htmx-ext-sse": ("dist/sse.js", "LICENSE"),
    "uplot": ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
}


def install(tests: bool = False) -> None:
    """Fetch the packages with npm and copy the named files; with `tests` what the tests of the
    pages need, too."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm: not found; install Node.js, or install onmodel from its wheel")
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(STUDIO / "npm" / name, temporary)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        options += [] if tests else ["--omit=dev"]
        subprocess.run([npm, "ci", *options], cwd=temporary, check=True)
        VENDOR.mkdir(exist_ok=True)
        for package, names in FILES.items():
            for name in names:
                source = Path(temporary) / "node_modules" / package / name
                own = f"{package}.LICENSE.txt" if name == "LICENSE" else source.name
                shutil.copy(source, VENDOR / own)
        if tests:
            shutil.copy(Path(temporary) / "node_modules" / "axe-core" / "axe.min.js", AXE)


class StudioAssets(BuildHookInterface):
    """Hatchling's hook: a wheel has the files, an editable installation is given them by run.py."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable" and not VENDOR.exists():
            install()


if __name__ == "__main__":
    install(tests="--tests" in sys.argv)
