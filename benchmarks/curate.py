"""How fast is a heap of pictures read, looked at and compared, and how does that grow? Which
repeats are found in it?

    python benchmarks/curate.py [--count 20000] [--repeats]

Repeats: heaps of toons of 192 px with planted repeats (onmodel/toon/heap.py) of a sixteenth, a
quarter and all of the count: processor seconds of the search, recall by kind of repeat, and links
between pictures of different originals ("false"; some are one scene that chance drew twice).
Perceptual hashes stand beside it: they find resaved copies in a hundredth of the time and see no
crop and no mirrored picture. With --repeats nothing else is measured.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageOps
from scipy.fft import dctn

from onmodel.character import load_character
from onmodel.cli.render import on_terminal
from onmodel.curate.audit import run_audit
from onmodel.curate.duplicates import Link, Thumb, find_links, group_links
from onmodel.curate.gather import gather
from onmodel.curate.workshop import open_workshop
from onmodel.evaluate.observers import load_observers
from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA, sample_toon
from onmodel.toon.captions import tags
from onmodel.toon.draw import draw
from onmodel.toon.heap import REPEATED, Heap, draw_heap

SHEET = Path(__file__).parents[1] / "onmodel" / "toon" / "characters" / "backgwa.toml"
SIDE, RELATIVES = 512, 5
HASH_SIDE, HASH_BITS = 32, 8  # of a perceptual hash: grey pixels, and bits that two may differ in
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


def find_repeats(count: int) -> list[dict[str, Any]]:
    """What the search and perceptual hashes find among `count` pictures with planted repeats."""
    heap, pictures = draw_heap(count, seed=1)
    names = [picture.name for picture in pictures]
    thumbs = [Thumb.of(picture.image) for picture in pictures]
    started = time.process_time()
    pairs = [(link.part, link.whole) for link in find_links(thumbs)]
    searched = time.process_time()
    hashed = equal_hashes([picture.image for picture in pictures])
    ended = time.process_time()
    return [
        {"by": "onmodel", **score(heap, names, pairs), "seconds": searched - started},
        {"by": "perceptual hash", **score(heap, names, hashed), "seconds": ended - searched},
    ]


def equal_hashes(images: Sequence[Image.Image]) -> list[tuple[int, int]]:
    """Pairs whose perceptual hashes differ in at most HASH_BITS of 64 bits. The hash: which of the
    8×8 lowest cosines of 32×32 grey pixels lie above their median, as `imagehash.phash` has it."""
    bits = []
    for image in images:
        grey = image.convert("L").resize((HASH_SIDE, HASH_SIDE), Image.Resampling.LANCZOS)
        low = dctn(np.asarray(grey, dtype=float))[:8, :8]
        bits.append(np.packbits(low > np.median(low)).view(np.uint64)[0])
    hashes = np.array(bits)
    found = []
    for i, one in enumerate(hashes):
        apart = np.bitwise_count(hashes[i + 1 :] ^ one)
        found += [(i, i + 1 + int(j)) for j in np.flatnonzero(apart <= HASH_BITS)]
    return found


def score(heap: Heap, names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Recall by kind of repeat (grouped with its original), pairs, and pairs of two originals."""
    links = [Link(part, whole, "near", (0.0, 0.0, 1.0, 1.0), 0.0) for part, whole in pairs]
    groups = dict(zip(names, group_links(len(names), links), strict=True))

    def root(name: str) -> str:
        while name in heap.repeats:
            name = heap.repeats[name]
        return name

    recall = {}
    for kind in REPEATED:
        own = [name for name in heap.repeats if name in heap.pictures[kind]]
        grouped = [name for name in own if groups[name] == groups[heap.repeats[name]]]
        recall[kind] = round(len(grouped) / len(own), 3)
    false = sum(root(names[part]) != root(names[whole]) for part, whole in pairs)
    return {"recall": recall, "pairs": len(pairs), "false": false}


def print_repeats(counts: Sequence[int]) -> None:
    """A table of what is found in heaps of these sizes, and how the time grows from one to the
    next."""
    print(f"| pictures | by | CPU s | growth | {' | '.join(REPEATED)} | pairs | false |")
    print("|---|---|---|---|" + "---|" * (len(REPEATED) + 2))
    before: dict[str, float] = {}
    for count in counts:
        for row in find_repeats(count):
            by, seconds = row["by"], row["seconds"]
            growth = f"{seconds / before[by]:.2f}" if by in before else ""
            before[by] = seconds
            recall = " | ".join(str(row["recall"][kind]) for kind in REPEATED)
            print(
                f"| {count} | {by} | {seconds:.1f} | {growth} | {recall} | {row['pairs']} |"
                f" {row['false']} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", action="store_true", help="measure the repeats alone")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    print_repeats([args.count // 16, args.count // 4, args.count])
    if args.repeats:
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
