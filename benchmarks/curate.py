"""How fast is a heap of pictures read, looked at and compared, and how does that grow?

    python benchmarks/curate.py [--count 20000]

Pictures of 512 px are made of a fifth as many renders, moved, mirrored and tinted so that none
repeats another byte for byte, and each has as many relatives in a small heap as in a large one;
they are removed at the end. A tenth of them is measured first, each in a process of its own, in
processor seconds of import (hash, decode, policy) and audit (thumbnails, tagger, identity, quality,
colours, repeats, labels, coverage). The last line is one JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from onmodel.character import load_character
from onmodel.cli.render import on_terminal
from onmodel.curate.audit import run_audit
from onmodel.curate.gather import gather
from onmodel.curate.workshop import open_workshop
from onmodel.evaluate.observers import load_observers
from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA, sample_toon
from onmodel.toon.captions import tags
from onmodel.toon.draw import draw

SHEET = Path(__file__).parents[1] / "onmodel" / "toon" / "characters" / "backgwa.toml"
SIDE, RELATIVES = 512, 5
FREE = ("expression", "framing", "view", "pose", "background", "style")


def write_heap(folder: Path, count: int) -> None:
    """`count` pictures with captions in five subsets."""
    rng = generator(0, "bench-curate")
    renders = []
    for _ in range(max(1, count // RELATIVES)):
        toon = sample_toon(rng)
        toon = BACKGWA.toon(**{name: getattr(toon, name) for name in FREE}, nuisance=toon.nuisance)
        caption = ", ".join(tags(toon, trigger=BACKGWA.trigger, absorbed=BACKGWA.fixed))
        renders.append((draw(toon, 192, 192), caption))
    for i in range(count):
        image, caption = renders[i % len(renders)]
        left, top, right, low = rng.integers(0, 50, 4).tolist()
        image = ImageChops.offset(image, int(rng.integers(192)), 0).crop(
            (left, top, 192 - right, 192 - low)
        )
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        if i % 2:
            image = ImageOps.mirror(image)
        tint = Image.new("RGB", image.size, tuple(rng.integers(0, 256, 3).tolist()))
        path = folder / f"set{i % 5}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.blend(image, tint, float(rng.uniform(0, 0.25))).save(path, quality=88)
        path.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")


def measure(folder: Path) -> dict[str, float]:
    """Processor seconds and peak memory of import and audit."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as temporary, on_terminal() as events:
        count, _ = gather([folder], Path(temporary) / "work", "bench", "MIT", events)
        read = time.process_time()
        workshop = open_workshop(Path(temporary) / "work")
        audit = run_audit(workshop, load_character(SHEET), load_observers("toon", {}, 1), events)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.process_time() - started
    return {
        "pictures": count,
        "seconds": seconds,
        "import": read - started,
        "peak_mb": peak,
        "links": len(audit.links),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    rows = []
    for count in (args.count // 10, args.count):
        with tempfile.TemporaryDirectory() as temporary:
            write_heap(Path(temporary), count)
            command = [sys.executable, __file__, "--measure", temporary]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(run.stdout.splitlines()[-1])
        rows.append(row)
        print(
            f"{count} pictures: {row['seconds']:.1f} CPU s, {row['import']:.1f} to import;"
            f" {row['links']} links, peak {row['peak_mb']:.0f} MB",
            flush=True,
        )
    small, large = rows
    print(
        json.dumps(
            {
                "pictures_per_s": round(large["pictures"] / large["seconds"], 1),
                "growth": round(large["seconds"] / small["seconds"], 2),
                "peak_mb": round(large["peak_mb"]),
            }
        )
    )


if __name__ == "__main__":
    main()
