"""Install the scripts and styles of other projects that the studio's pages use.

.venv/bin/python tools/studio_assets.py

Versions and SHA-512 hashes stand in onmodel/studio/npm/package-lock.json; npm checks them. The
files and their licences go to onmodel/studio/static/vendor/, which the wheel contains. A wheel is
built after this; whoever installs or runs it needs neither npm nor a network.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

STUDIO = Path(__file__).resolve().parent.parent / "onmodel" / "studio"
VENDOR = STUDIO / "static" / "vendor"
FILES = {
    "htmx.org": ("dist/htmx.min.js", "LICENSE"),
    "htmx-ext-sse": ("dist/sse.js", "LICENSE"),
    "uplot": ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
}


def install() -> None:
    """Fetch the packages with npm and copy the named files."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm: not found; install Node.js, or install onmodel from its wheel")
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(STUDIO / "npm" / name, temporary)
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        subprocess.run([npm, "ci", *options], cwd=temporary, check=True)
        VENDOR.mkdir(exist_ok=True)
        for package, names in FILES.items():
            for name in names:
                source = Path(temporary) / "node_modules" / package / name
                own = f"{package}.LICENSE.txt" if name == "LICENSE" else source.name
                shutil.copy(source, VENDOR / own)


if __name__ == "__main__":
    install()
