"""Pictures that are one picture: the same pixels, resaved, scaled, mirrored, cut out, or the same
scene with a detail changed.

A picture's central square is described by 24 numbers; so are some 180 squares of it at six sizes. A
cut-out's central square is a square of the picture that it was cut from, so a search for the
nearest descriptions in a k-d tree proposes pairs, for cut-outs, mirrored and whole pictures alike.
The squares of the search lie on a grid, so distances are measured in units of what a misplaced
square changes, learnt from the pictures themselves (whitening within class, as linear discriminant
analysis does).

Among many pictures of one character, many others lie nearer than the picture sought. So all that
are proposed for a picture are aligned at once on a coarse grid (place and scale; Lucas and Kanade
1981), which takes the misplacement away, and those with the smallest remaining difference are kept.
These are aligned finely and compared pixel by pixel, which decides.

Not found: turned pictures, cut-outs of less than half the shorter side, and what is drawn anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from typing import Literal, get_args

import numpy as np
from PIL import Image

from onmodel.dataset.pixels import SIDE, small
from onmodel.events import Task
from onmodel.randomness import generator

Kind = Literal["near", "flip", "crop", "scene"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_KEPT = 256  # pictures whose sums are kept at hand

SCALES = (1.0, 0.88, 0.78, 0.69, 0.61, 0.54)  # of the squares, in shares of the shorter side
STEP = 0.14  # from square to square, in shares of its side
CELLS, LUMA, CHROMA = (
    8,
    4,
    2,
)  # a square's means on 8×8 cells; its lowest 4×4 and 2 × 2×2 cosines are kept
NEIGHBOURS = 16  # pictures nearest to a square that are aligned coarsely
PROPOSED = 3  # pictures that are compared with a picture, either way round
# by how much the search may miss the nearest; at 0.6 it misses one crop in 80 and saves a tenth
LOOSE = 0.35
STARTS = 2  # squares from which a picture is aligned coarsely
RADIUS = 9.0  # in units of misplacement; 97 of 100 cut-outs lie within 8
SAMPLED = 300  # pictures that the units are learnt from
# Alignment, coarse to fine: cells, steps, and the root mean square difference in levels beyond
# which it is given up.
_ALIGN = ((12, 4, 14.0), (24, 3, 20.0))
COARSE = 24.0  # the same on CELLS cells, from which a picture is no candidate
COARSE_STEPS = (20.0, 16.0, 16.0)  # and beyond which it is given up after each step
_MARGIN = 3  # pixels at the rim that are not compared
_EXTREMES = (np.minimum, np.maximum)

# Measured on 600 toons of 192 px of one character, 100 of them such repeats (mean difference of
# what is unchanged, in levels of 256, from the fifth to the ninety-fifth of a hundred): repeats 0.2
# … 2, other pictures of her 2.2 … 10. At 96 px a JPEG of quality 60 reaches 5.
CHANGED = 22.0  # levels from which 2×2 pixels count as changed
RESAVED, LITTLE = 0.008, 0.09  # the share that may change when resaved, and within one scene
CALM = {"near": 5.5, "crop": 1.8, "scene": 1.2}  # mean difference of what is unchanged, in levels
SMALLEST = 0.5  # share of each side that a cut-out keeps
WHOLE = 0.96  # share of the sides from which a cut-out is the whole picture

_ACROSS = np.cos(np.pi * (np.arange(CELLS) + 0.5) * np.arange(LUMA)[:, None] / CELLS) * np.sqrt(
    2 / CELLS
)
_ACROSS[0] /= np.sqrt(2)


@dataclass(frozen=True, slots=True)
class Thumb:
    """A picture as the search for repeats reads it: a thumbnail [SIDE, SIDE, 3] uint8, stretched to
    a square; `aspect` is the picture's width / height."""

    aspect: float
    pixels: np.ndarray

    @classmethod
    def of(cls, image: Image.Image) -> "Thumb":
        return cls(image.width / image.height, np.asarray(small(image)))

    def mirrored(self) -> "Thumb":
        return Thumb(self.aspect, self.pixels[:, ::-1])


@dataclass(frozen=True, slots=True)
class Link:
    """Picture `part` shows what picture `whole` shows within `box` (left, top, right, bottom in
    shares of its sides).

    `changed` is the share of it that differs.
    """

    part: int
    whole: int
    kind: Kind
    box: tuple[float, float, float, float]
    changed: float


def find_links(thumbs: Sequence[Thumb], task: Task | None = None) -> list[Link]:
    """Pairs of pictures that are one, the strongest claim of each pair. `task` moves by pictures,
    twice.

    Of pictures with the same pixels only the first is searched; more of them than a search returns
    would hide the rest. Time: some 180 searches, coarse alignments with what they find, and at most
    2 × PROPOSED comparisons a picture. Memory: 7 kB a picture and what `thumbs` holds; it may read
    them from a file.
    """
    first: dict[tuple[float, bytes], int] = {}
    pixels = [(thumb.aspect, sha256(thumb.pixels.tobytes()).digest()) for thumb in thumbs]
    places = [first.setdefault(key, i) for i, key in enumerate(pixels)]
    copies = [
        Link(i, place, "near", (0.0, 0.0, 1.0, 1.0), 0.0)
        for i, place in enumerate(places)
        if i != place
    ]
    alone = sorted(first.values())
    if task:
        task.advance(2 * len(copies))
    found = _search([thumbs[i] for i in alone], task) if len(alone) > 1 else []
    found = [replace(link, part=alone[link.part], whole=alone[link.whole]) for link in found]
    return sorted(copies + found, key=lambda link: sorted((link.part, link.whole)))


def _search(thumbs: Sequence[Thumb], task: Task | None) -> list[Link]:
    """The links of pictures that all differ, by pair."""
    proposed = _propose(thumbs, task)
    n = len(thumbs)
    image = lru_cache(maxsize=_KEPT)(lambda i: _Image(thumbs[i]))
    found: dict[tuple[int, int], Link] = {}
    for part in range(n):
        for mirror in (False, True):
            proposals = _nearest(proposed[part + n * mirror])
            if not proposals:
                continue
            thumb = thumbs[part].mirrored() if mirror else thumbs[part]
            template = _Template(_Image(thumb), _centre(thumb.aspect)[0])
            for proposal in proposals:
                whole = proposal.whole
                pair = min(part, whole), max(part, whole)
                if pair in found and found[pair].kind == "near":
                    continue
                link = _compare(thumb, template, thumbs[whole], image(whole), proposal)
                if link is None:
                    continue
                kind, place, changed = link
                if mirror and kind == "near":
                    kind = "flip"
                if pair not in found or _KINDS.index(kind) < _KINDS.index(found[pair].kind):
                    found[pair] = Link(part, whole, kind, place, changed)
        if task:
            task.advance()
    return [found[pair] for pair in sorted(found)]


@dataclass(frozen=True, slots=True)
class _Proposal:
    """Picture `whole` may show what a picture shows: its central square lies near `box` [4], with
    this difference in levels. `square` is its square that the search found, by number; 0 is the
    central one."""

    difference: float
    whole: int
    box: np.ndarray
    square: int


def _nearest(proposals: Sequence[_Proposal]) -> list[_Proposal]:
    """The proposals that are compared, the nearest first."""
    return sorted(proposals, key=lambda row: (row.difference, row.whole))[:PROPOSED]


def _propose(thumbs: Sequence[Thumb], task: Task | None) -> list[list[_Proposal]]:
    """View → pictures that it may be a part of. The views are the pictures, then all of them
    mirrored."""
    from scipy.spatial import cKDTree

    n, whiten = len(thumbs), _units(thumbs)
    cells_v = np.concatenate(
        [_Image(thumb).means(_centre(thumb.aspect), CELLS) for thumb in thumbs]
    )
    views = _Views(np.concatenate([cells_v, cells_v[:, :, ::-1]]))
    tree = cKDTree(_cosines(views.means) @ whiten)
    proposed: list[list[_Proposal]] = [[] for _ in range(2 * n)]
    for whole, thumb in enumerate(thumbs):
        image, squares = _Image(thumb), _squares(thumb.aspect)
        cells = image.means(squares, CELLS)
        distances, parts = tree.query(
            _cosines(cells) @ whiten,
            k=min(NEIGHBOURS + 1, 2 * n),
            eps=LOOSE,
            distance_upper_bound=RADIUS,
        )
        rows, columns = np.nonzero((parts < 2 * n) & (parts % n != whole))
        part, distance = parts[rows, columns], distances[rows, columns]
        order = np.lexsort((rows, distance, part))
        part, start = part[order], rows[order]
        # The first squares of each picture.
        kept = np.concatenate([np.arange(len(part))[:STARTS] >= 0, part[STARTS:] != part[:-STARTS]])
        part, start = part[kept], start[kept]
        boxes, difference = views.align(image, part, squares[start], cells[start])
        for i in np.flatnonzero((difference <= COARSE) | (start == 0)).tolist():
            own = proposed[part[i]]
            own.append(_Proposal(float(difference[i]), whole, boxes[i], int(start[i])))
            if len(own) > 8 * PROPOSED:
                own[:] = _nearest(own)
        if task:
            task.advance()
    return proposed


def group_links(count: int, links: Sequence[Link]) -> list[int]:
    """A group number for each of `count` pictures, from 0 in order of first appearance; linked ones
    share theirs."""
    parents = list(range(count))

    def top(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for link in links:
        a, b = top(link.part), top(link.whole)
        parents[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(top(i), len(numbers)) for i in range(count)]


def _compare(
    part: Thumb, template: "_Template", whole: Thumb, image: "_Image", proposal: _Proposal
) -> tuple[Kind, tuple[float, float, float, float], float] | None:
    """Align finely, and judge: from the coarse alignment, then from the square itself, since the
    coarse grid leads some astray."""
    square = _squares(whole.aspect)[proposal.square]
    for start in (proposal.box, square):
        box = _align(template, image, start)
        if box is None and proposal.square == 0:  # so does another face in a close-up
            box = square
        if box is not None and (link := _judge(part, whole, box)):
            return link
    return None


def _judge(
    part: Thumb, whole: Thumb, square: np.ndarray
) -> tuple[Kind, tuple[float, float, float, float], float] | None:
    """Kind (that it is mirrored is the caller's to know), box in `whole`, changed share; None: two
    pictures.

    `square` [4] is where the central square of `part` lies in `whole`.
    """
    box = _whole_box(part.aspect, square)
    if box.min() < -0.04 or box.max() > 1.04:
        return None
    box = box.clip(0, 1)
    size = box[2:] - box[:2]
    if size.min() < SMALLEST:
        return None
    gap = _gap(part, whole, box)
    changed = float((gap > CHANGED).mean())
    calm = float(gap[gap <= CHANGED].mean()) if changed < 1 else np.inf
    place = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    kind: Kind = "near" if size.min() >= WHOLE else "crop"
    if changed <= RESAVED and calm <= CALM[kind]:
        return kind, place, changed
    if kind == "near" and changed <= LITTLE and calm <= CALM["scene"]:
        return "scene", place, changed
    return None


def _gap(part: Thumb, whole: Thumb, box: np.ndarray) -> np.ndarray:
    """How far 2×2 pixels of each lie outside what the other has within one pixel, in levels, at the
    coarser's size."""
    width, height = (max(24, round(SIDE * share / 2) * 2) for share in (box[2:] - box[:2]).tolist())
    left, top, right, bottom = (SIDE * box).tolist()
    views = (
        Image.fromarray(part.pixels).resize((width, height), Image.Resampling.LANCZOS),
        Image.fromarray(whole.pixels).resize(
            (width, height), Image.Resampling.LANCZOS, (left, top, right, bottom)
        ),
    )
    rim = _MARGIN - 1
    around = [np.asarray(view, dtype=np.int16)[rim:-rim, rim:-rim] for view in views]
    pixels = [view[1:-1, 1:-1] for view in around]
    low, high = ([_of_nine(extreme, view) for view in around] for extreme in _EXTREMES)
    outside = [np.maximum(pixels[i] - high[1 - i], low[1 - i] - pixels[i]) for i in (0, 1)]
    gap = np.maximum(*outside).clip(0).mean(axis=2)
    down, across = gap.shape[0] // 2, gap.shape[1] // 2
    return np.asarray(gap[: 2 * down, : 2 * across].reshape(down, 2, across, 2).mean(axis=(1, 3)))


def _of_nine(extreme: np.ufunc, view: np.ndarray) -> np.ndarray:
    """The least or the greatest of 3×3 pixels around each that is not at the rim."""
    down = extreme(extreme(view[:-2], view[1:-1]), view[2:])
    return np.asarray(extreme(extreme(down[:, :-2], down[:, 1:-1]), down[:, 2:]))


class _Image:
    """Sums of a thumbnail's luma and two colour differences over any box: an integral image (Crow
    1984)."""

    def __init__(self, thumb: Thumb) -> None:
        red, green, blue = thumb.pixels.astype(np.float32).transpose(2, 0, 1)
        planes = np.stack(
            [0.299 * red + 0.587 * green + 0.114 * blue, red - green, (red + green) / 2 - blue],
            axis=-1,
        )
        self.sums = np.zeros((SIDE + 1, SIDE + 1, 3))
        self.sums[1:, 1:] = planes.cumsum(0).cumsum(1)

    def means(self, boxes: np.ndarray, cells: int) -> np.ndarray:
        """Means [n, cells, cells, 3] of a grid over each of the boxes [n, 4]; a box's rim may lie
        between pixels."""
        share = np.linspace(0, 1, cells + 1)
        x, y = (
            (boxes[:, [i]] + (boxes[:, [i + 2]] - boxes[:, [i]]) * share) * SIDE for i in (0, 1)
        )
        x, y = x.clip(0, SIDE), y.clip(0, SIDE)
        left, top = (np.minimum(edge.astype(int), SIDE - 1) for edge in (x, y))
        right_part, low_part = (x - left)[:, None, :, None], (y - top)[:, :, None, None]
        across, down = left[:, None, :], top[:, :, None]
        upper = (
            self.sums[down, across] * (1 - right_part) + self.sums[down, across + 1] * right_part
        )
        lower = (
            self.sums[down + 1, across] * (1 - right_part)
            + self.sums[down + 1, across + 1] * right_part
        )
        at = upper * (1 - low_part) + lower * low_part
        total = at[:, 1:, 1:] - at[:, :-1, 1:] - at[:, 1:, :-1] + at[:, :-1, :-1]
        area = np.maximum(
            (x[:, 1:] - x[:, :-1])[:, None, :] * (y[:, 1:] - y[:, :-1])[:, :, None], 1e-6
        )
        return np.asarray(total / area[..., None])


def _describe(image: _Image, boxes: np.ndarray) -> np.ndarray:
    """The lowest cosines [n, 24] of boxes [n, 4]."""
    return _cosines(image.means(boxes, CELLS))


def _cosines(cells: np.ndarray) -> np.ndarray:
    """The lowest cosines [n, 24] of means [n, CELLS, CELLS, 3]: luma and, coarser, colour."""
    luma = np.einsum("ai,bj,nij->nab", _ACROSS, _ACROSS, cells[..., 0]).reshape(len(cells), -1)
    few = _ACROSS[:CHROMA]
    chroma = np.einsum("ai,bj,nijk->nabk", few, few, cells[..., 1:]).reshape(len(cells), -1)
    return np.concatenate([luma, chroma], axis=1) / CELLS


class _Views:
    """Central squares as the coarse alignment needs them: means [v, c, c, 3], and the matrices
    [v, 3, c·c·3] that turn differences of the means into a move (`_Template`)."""

    def __init__(self, means: np.ndarray) -> None:
        self.means = means.astype(np.float32)
        slopes = _slopes(self.means)
        squared = np.einsum("vci,vcj->vij", slopes, slopes) + 1e-3 * np.eye(3, dtype=np.float32)
        self.explain = np.linalg.solve(squared, slopes.transpose(0, 2, 1)).astype(np.float32)

    def align(
        self, image: _Image, part: np.ndarray, boxes: np.ndarray, means: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where in a picture the central squares of the views `part` [m] lie, from boxes [m, 4]
        with these means on, and the root mean square difference [m] that remains, in levels."""
        wanted, explain = self.means[part], self.explain[part]
        error = (means.astype(np.float32) - wanted).reshape(len(part), CELLS * CELLS * 3)
        difference = np.sqrt(np.mean(error**2, axis=1))
        best, moved, alive = boxes.copy(), boxes, np.arange(len(part))
        for limit in COARSE_STEPS:
            moved = _moved(moved, np.einsum("mic,mc->mi", explain[alive], error))
            error = (image.means(moved, CELLS) - wanted[alive]).reshape(error.shape)
            apart = np.sqrt(np.mean(error**2, axis=1))
            nearer = apart < difference[alive]
            difference[alive[nearer]], best[alive[nearer]] = apart[nearer], moved[nearer]
            kept = apart < limit
            alive, moved, error = alive[kept], moved[kept], error[kept]
        return best, difference


def _moved(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Boxes [m, 4] after moves [m, 3], as `_align` makes them."""
    x, y, growth = moves.clip(-0.2, 0.2).T[..., None]
    half, middle = (boxes[:, 2:] - boxes[:, :2]) / 2, (boxes[:, 2:] + boxes[:, :2]) / 2
    half = half / (1 + growth)
    middle = middle - half * np.concatenate([x, y], axis=1)
    return np.concatenate([middle - half, middle + half], axis=1)


def _slopes(cells: np.ndarray) -> np.ndarray:
    """How means [v, c, c, 3] change when their square moves across, down, or grows, [v, c·c·3, 3]
    in halves of its side."""
    count = cells.shape[1]
    place = ((np.arange(count) + 0.5) / count * 2 - 1).astype(cells.dtype)
    down, across = np.gradient(cells, 2 / count, axis=(1, 2))
    grow = across * place[:, None] + down * place[:, None, None]
    return np.stack([across, down, grow], axis=-1).reshape(len(cells), -1, 3)


def _units(thumbs: Sequence[Thumb]) -> np.ndarray:
    """The matrix [24, 24] that makes a misplaced square's difference of unit covariance, from
    random squares."""
    rng = generator(0, "duplicates: squares")
    differences = []
    for i in rng.permutation(len(thumbs))[:SAMPLED]:
        thumb, grid = thumbs[i], _squares(thumbs[i].aspect)
        side = rng.uniform(SCALES[-1] * 0.97, 1, (8, 1)) * _unit_square(thumb.aspect)
        corner = rng.random((8, 2)) * (1 - side)
        boxes = np.concatenate([corner, corner + side], axis=1)
        nearest = np.abs(grid[None] - boxes[:, None]).max(axis=2).argmin(axis=1)
        image = _Image(thumb)
        differences.append(_describe(image, boxes) - _describe(image, grid[nearest]))
    covariance = np.cov(np.concatenate(differences).T) + 0.3 * np.eye(differences[0].shape[1])
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)))


def _unit_square(aspect: float) -> np.ndarray:
    """Width and height of a square with the shorter side, in shares of the picture's sides."""
    return np.array([min(1.0, 1 / aspect), min(1.0, aspect)])


def _centre(aspect: float) -> np.ndarray:
    side = _unit_square(aspect)
    return np.concatenate([(1 - side) / 2, (1 + side) / 2])[None]


@lru_cache(maxsize=1024)
def _squares(aspect: float) -> np.ndarray:
    """The squares [n, 4] that a picture is searched by, the central one first: whole pictures match
    it exactly."""
    found = [_centre(aspect)]
    for scale in SCALES:
        side = scale * _unit_square(aspect)
        places = [
            np.linspace(0, 1 - s, n)
            if (n := 1 + round((1 - s) / (STEP * s))) > 1
            else np.array([(1 - s) / 2])
            for s in side.tolist()
        ]
        corners = np.stack(np.meshgrid(*places), axis=-1).reshape(-1, 2)
        found.append(np.concatenate([corners, corners + side], axis=1))
    return np.concatenate(found)


class _Template:
    """A picture's central square as the fine alignment needs it: for each of _ALIGN's levels its
    cells, and the matrix that turns a difference of the cells into the move (across, down, growth)
    that explains it."""

    def __init__(self, image: _Image, centre: np.ndarray) -> None:
        self.levels = []
        for cells, _, _ in _ALIGN:
            wanted = image.means(centre[None], cells)
            slopes = _slopes(wanted)[0]
            explain = np.linalg.solve(slopes.T @ slopes + 1e-3 * np.eye(3), slopes.T)
            self.levels.append((wanted.reshape(-1), explain))


def _align(part: _Template, whole: _Image, square: np.ndarray) -> np.ndarray | None:
    """The box of `whole` that the central square of `part` shows, from `square` on; None when
    nothing like it is near.

    The part's slopes serve every step and every start: inverse composition (Baker and Matthews
    2004, IJCV 56).
    """
    box = square.astype(float)
    for (cells, steps, apart), (wanted, explain) in zip(_ALIGN, part.levels, strict=True):
        for _ in range(steps):
            error = whole.means(box[None], cells).reshape(-1) - wanted
            x, y, growth = (explain @ error).clip(-0.2, 0.2).tolist()
            half, middle = (box[2:] - box[:2]) / 2, (box[2:] + box[:2]) / 2
            half = half / (1 + growth)
            middle = middle - half * (x, y)
            box = np.concatenate([middle - half, middle + half])
            if half.min() < 0.1 or half.max() > 0.6:
                return None
        if np.sqrt(np.mean((whole.means(box[None], cells).reshape(-1) - wanted) ** 2)) > apart:
            return None
    return box


def _whole_box(aspect: float, square: np.ndarray) -> np.ndarray:
    """The box of the whole part, whose central square lies at `square`."""
    middle, half = (
        (square[2:] + square[:2]) / 2,
        (square[2:] - square[:2]) / 2 / _unit_square(aspect),
    )
    return np.concatenate([middle - half, middle + half])
