"""The studio beside Gradio: start, thumbnails, scrolling, filter, edits, memory, size.

    python run.py bench-studio [--pictures 20000] [--repeats 3] [--gradio PYTHON] [--folder DIR]

Draws a data set of so many 512 px JPEG files once, serves it with `onmodel studio` in a process of
its own, and opens it in the Chromium of this machine. Gradio, where a Python that has it is given,
shows 2,000 of the same pictures in its Gallery, which is what its users would write; beside it
stands the studio with a data set of the same 2,000 (`equal_…`). Both are compared from the command
to the first twelve thumbnails, as a user waits. Times are wall times of this machine; compare
ratios. Printed are the best and the median of the repeats, and the
load of the machine before each. The last line is one JSON object.
"""

import argparse
import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from onmodel.curate.workshop import Piece, Said, make_workshop
from onmodel.hashing import sha256_bytes

SIDE = 512
TAGS = 300
EDITED = 5_000
RIVAL = 2_000  # pictures that Gradio shows
FIRST = 12  # thumbnails that make the first screen
ROOMS = ("run", "recipe", "compare", "results", "merge", "release")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
EXTRA = ("starlette", "uvicorn", "python-multipart", "tomlkit", "markdown-it-py")
NAMES = ("chromium", "chromium-browser", "google-chrome")

# Longest time between two frames, in ms, while the grid is scrolled from its beginning to its end.
SCROLL = """async () => {
  const grid = document.getElementById('grid');
  let last = performance.now(), longest = 0;
  const end = last + 4000, height = grid.scrollHeight - grid.clientHeight;
  const begin = last;
  while (last < end) {
    await new Promise((done) => requestAnimationFrame(done));
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    grid.scrollTop = height * (now - begin) / 4000;
  }
  return longest;
}"""
# Bytes of the page, its scripts and styles, without pictures and data.
SENT = """async () => {
  let sum = 0;
  for (const row of performance.getEntries()) {
    if (!['navigation', 'script', 'link', 'css'].includes(row.initiatorType)) continue;
    sum += (await (await fetch(row.name, {cache: 'no-store'})).blob()).size;
  }
  return sum;
}"""
LOADED = f"""() => [...document.querySelectorAll('img')]
  .filter((image) => image.complete && image.naturalWidth).length >= {FIRST}"""

GALLERY = """
import sys, glob
import gradio
files = sorted(glob.glob(sys.argv[1] + "/*.jpg"))[:int(sys.argv[2])]
with gradio.Blocks() as page:
    gradio.Gallery(files, columns=8)
_, url, _ = page.launch(prevent_thread_lock=True, quiet=True, allowed_paths=[sys.argv[1]])
print(url, flush=True)
page.block_thread()
"""


@dataclass
class Measured:
    """One repeat. Seconds, milliseconds, megabytes; None where it was not measured.

    `start_s` ends when the first page was answered. `…_cpu_s` is the CPU time of the server alone,
    which a busy machine hardly lengthens. `browser12_s` is what the browser itself takes:
    a page of 12 of the pictures from `python -m http.server`. `rss_mb` is that of the server and
    its processes after the edit and its undo, `rss_rooms_mb` after a visit to every room. `equal_…`
    is the studio with as many pictures as Gradio shows.
    """

    start_s: float | None = None
    start_cpu_s: float | None = None
    browser12_s: float | None = None
    first12_cold_s: float | None = None
    first12_cold_cpu_s: float | None = None
    first12_warm_s: float | None = None
    first12_warm_cpu_s: float | None = None
    longest_frame_ms: float | None = None
    filter_ms: float | None = None
    edit_5000_s: float | None = None
    undo_5000_s: float | None = None
    rss_mb: float | None = None
    rss_rooms_mb: float | None = None
    install_mb: float | None = None
    page_kb: float | None = None
    equal_start_s: float | None = None
    equal_first12_s: float | None = None
    equal_rss_mb: float | None = None
    gradio_start_s: float | None = None
    gradio_start_cpu_s: float | None = None
    gradio_first12_s: float | None = None
    gradio_rss_mb: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--gradio", type=Path, help="a Python that has gradio")
    parser.add_argument("--folder", type=Path, help="keep the data set here")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder: Path = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workspace = folder / "workspace"
        if not (workspace / "big").is_dir():
            draw_dataset(workspace / "big", args.pictures)
        equal = folder / "equal"
        if args.gradio and not (equal / "big").is_dir():
            draw_dataset(equal / "big", RIVAL)
        names = [f"base/{i:05d}" for i in range(args.pictures)]
        playwright = stack.enter_context(sync_playwright())
        chromium = next(filter(None, map(shutil.which, NAMES)))
        browser = playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS))

        def page() -> Page:
            size = {"width": 1440, "height": 900}
            return browser.new_context(bypass_csp=True, viewport=size).new_page()

        repeats = []
        for _ in range(args.repeats):
            print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", file=sys.stderr)
            found = Measured(install_mb=installed_mb())
            measure_browser(found, workspace / "big" / "pictures", page())
            measure_studio(found, workspace, names, page)
            if args.gradio:
                measure_equal(found, equal, page)
                measure_gradio(found, equal / "big" / "pictures", args.gradio, page())
            repeats.append(asdict(found))
        browser.close()
    best = {name: least([row[name] for row in repeats]) for name in repeats[0]}
    median = {name: middle([row[name] for row in repeats]) for name in repeats[0]}
    print(f"{'':18} {'best':>8} {'median':>8}   of {args.repeats}")
    for name in best:
        print(f"{name:18} {number(best[name]):>8} {number(median[name]):>8}")
    found = Measured(**median)
    if args.gradio:
        print(beside_gradio(found))
    print(json.dumps({"best": best, "median": median}))


def beside_gradio(found: Measured) -> str:
    """How often the studio's time and memory go into Gradio's, with the same pictures."""

    def ratio(theirs: list[float | None], ours: list[float | None]) -> float:
        return sum(filter(None, theirs)) / sum(filter(None, ours))

    waited = ratio(
        [found.gradio_start_s, found.gradio_first12_s], [found.equal_start_s, found.equal_first12_s]
    )
    opened_ = ratio([found.gradio_first12_s], [found.equal_first12_s])
    held = ratio([found.gradio_rss_mb], [found.equal_rss_mb])
    return (
        f"Gradio with the same {RIVAL:,} pictures: {waited:.1f} × the time from the command to the"
        f" first {FIRST} thumbnails ({opened_:.1f} × once it runs), {held:.1f} × the"
        " memory (medians)"
    )


def least(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(min(known), 3) if known else None


def middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def draw_dataset(folder: Path, count: int) -> None:
    """Pictures that compress like drawings, and a data set of them with 14 tags each."""
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(64)]
    large = [Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for part in small]
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    pieces = []
    for i in range(count):
        image = large[i % len(large)].copy()
        image.paste((i % 255, i // 255 % 255, 0), (0, 0, 40, 40))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        path, data = pictures / f"{i:05d}.jpg", buffer.getvalue()
        path.write_bytes(data)
        numbers = rng.choice(TAGS, 12, replace=False)
        tags = ("1girl", "mychar", *(f"tag {number}" for number in numbers))
        said = tuple(Said(tag, "file") for tag in tags)
        name = f"base/{i:05d}"
        pieces.append(Piece(name, path, sha256_bytes(data), SIDE, SIDE, "base", said, "", "", ""))
    make_workshop(folder / "data", pieces, {"base": 1}, [], {})


def measure_browser(found: Measured, pictures: Path, page: Page) -> None:
    """A bare page of so many pictures, without the studio."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        files = sorted(pictures.iterdir())[:FIRST]
        for path in files:
            shutil.copy(path, folder)
        images = "".join(f'<img src="{path.name}">' for path in files)
        Path(folder, "index.html").write_text(f"<!doctype html>{images}", encoding="utf-8")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-u", "-m", "http.server", str(port), "-d", folder]
        with served([*command, "-b", "127.0.0.1"], stderr=subprocess.DEVNULL):
            found.browser12_s = seconds(lambda: opened(page, f"http://127.0.0.1:{port}/"))


def measure_studio(
    found: Measured, workspace: Path, names: list[str], new_page: Callable[[], Page]
) -> None:
    """All numbers of the studio, from a workspace without thumbnails and edits."""
    shutil.rmtree(workspace / ".studio", ignore_errors=True)
    (workspace / "big" / "data" / "journal.jsonl").unlink(missing_ok=True)
    begin = time.perf_counter()
    with served([sys.executable, "-m", "onmodel", "studio", str(workspace)]) as (process, url):
        answered(url)
        found.start_s, found.start_cpu_s = time.perf_counter() - begin, cpu_s(process)
        page = new_page()
        page.goto(url)
        character = f"{page.url}c/{_id(page)}"
        data = f"{character}/data"
        used = cpu_s(process)
        found.first12_cold_s = seconds(lambda: opened(page, data))
        found.first12_cold_cpu_s = cpu_s(process) - used
        found.page_kb = page.evaluate(SENT) / 1000
        used = cpu_s(process)
        found.first12_warm_s = seconds(lambda: opened(page, data))
        found.first12_warm_cpu_s = cpu_s(process) - used
        found.longest_frame_ms = page.evaluate(SCROLL)
        found.filter_ms = min(filtered_ms(page, data, tag) for tag in range(5))
        edit = {"names": names[:EDITED], "add": "a new tag"}
        found.edit_5000_s = seconds(lambda: posted(page, f"{data}/edit", edit))
        found.undo_5000_s = seconds(lambda: posted(page, f"{data}/undo", {}))
        found.rss_mb = memory_mb(process)
        for room in ROOMS:
            page.goto(f"{character}/{room}")
        found.rss_rooms_mb = memory_mb(process)


def measure_equal(found: Measured, workspace: Path, new_page: Callable[[], Page]) -> None:
    """Start, thumbnails and memory with as many pictures as Gradio shows, nothing kept before."""
    shutil.rmtree(workspace / ".studio", ignore_errors=True)
    begin = time.perf_counter()
    with served([sys.executable, "-m", "onmodel", "studio", str(workspace)]) as (process, url):
        answered(url)
        found.equal_start_s = time.perf_counter() - begin
        page = new_page()
        page.goto(url)
        data = f"{page.url}c/{_id(page)}/data"
        found.equal_first12_s = seconds(lambda: opened(page, data))
        found.equal_rss_mb = memory_mb(process)


def answered(url: str) -> None:
    """Read a page as a browser does that keeps cookies."""
    keeping = urllib.request.HTTPCookieProcessor()
    with urllib.request.build_opener(keeping).open(url) as answer:
        answer.read()


def opened(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function(LOADED)


def filtered_ms(page: Page, data: str, tag: int) -> float:
    """From the question to the rows in the page's hands, on the page's own clock."""
    return float(
        page.evaluate(
            """async (url) => {
              const begin = performance.now();
              await (await fetch(url)).json();
              return performance.now() - begin;
            }""",
            f'{data}/rows?q=tag:"tag {tag}"&count=200',
        )
    )


def posted(page: Page, address: str, body: object) -> None:
    answer = page.evaluate(
        """async ([url, body]) => (await fetch(url, {method: 'POST', body: JSON.stringify(body),
        headers: {'Content-Type': 'application/json', Accept: 'application/json'}})).json()""",
        [address, body],
    )
    if "error" in answer:
        raise SystemExit(answer["error"])


def measure_gradio(found: Measured, pictures: Path, python: Path, page: Page) -> None:
    """The same pictures in a Gallery, each read from its file."""
    command = [str(python), "-c", GALLERY, str(pictures), str(RIVAL)]
    begin = time.perf_counter()
    with served(command) as (process, url):
        answered(url)
        found.gradio_start_s, found.gradio_start_cpu_s = time.perf_counter() - begin, cpu_s(process)
        found.gradio_first12_s = seconds(lambda: opened(page, url))
        found.gradio_rss_mb = memory_mb(process)


@contextlib.contextmanager
def served(command: list[str], stderr: int | None = None) -> Iterator[tuple[psutil.Process, str]]:
    """A server that prints a line, its address, when it answers; and that line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.terminate()


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def cpu_s(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


def memory_mb(process: psutil.Process) -> float:
    """Of a server and of the processes that it started."""
    processes = [process, *process.children(recursive=True)]
    return sum(one.memory_info().rss for one in processes) / 1e6


def installed_mb() -> float:
    """Files of the packages that the extra adds, and of the studio itself."""
    total = 0
    for name in EXTRA:
        for file in importlib.metadata.files(name) or ():
            with contextlib.suppress(OSError):
                total += Path(str(file.locate())).stat().st_size
    studio = Path(__file__).resolve().parent.parent / "onmodel" / "studio"
    total += sum(path.stat().st_size for path in studio.rglob("*") if path.is_file())
    return total / 1e6


def _id(page: Page) -> str:
    """The id of the only character."""
    address = page.locator(".cards a").first.get_attribute("href") or ""
    return address.split("/")[2]


if __name__ == "__main__":
    main()
