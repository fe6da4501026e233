"""Makes everything in onmodel/toon/assets from nothing: `python tools/build_toon_assets.py`.

Steps run in order, each resumes where it stopped; `--only STEP` runs one. About nine hours on two
CPU cores without a GPU; no network, no data but the toon renderer. `--minutes-scale 0.01` is a
smoke test of the whole chain, with other --out and --work folders.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import torch  # noqa: E402
from toon_assets import (  # noqa: E402
    base,
    corruption,
    decoder,
    detector,
    export,
    identity,
    measure,
    observers,
    readme,
    text,
    vae,
)
from toon_assets.common import Settings  # noqa: E402
from toon_assets.sdxl import base as sdxl_base  # noqa: E402
from toon_assets.sdxl import measure as sdxl_measure  # noqa: E402
from toon_assets.sdxl import vae as sdxl_vae  # noqa: E402

STEPS: dict[str, Callable[[Settings], None]] = {
    "tokenizers": text.build_tokenizers,
    "vae": vae.train_joint,
    "base": base.train,
    "decoder": decoder.train,
    "tagger": observers.train_tagger,
    "identity": identity.train_identity,
    "detector": detector.train,
    "corruption": corruption.train,
    "export": export.export,
    "measure": measure.measure,
    "readme": readme.write,
    "sdxl-vae": sdxl_vae.train,
    "sdxl-base": sdxl_base.train,
    "sdxl-export": sdxl_base.export,
    "sdxl-measure": sdxl_measure.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=STEPS, help="run this step alone")
    parser.add_argument(
        "--minutes-scale", type=float, default=1.0, help="multiplies every training time"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "onmodel" / "toon" / "assets")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/assets"), help="checkpoints and pictures, resumable"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    settings = Settings(options.out, options.work, options.minutes_scale, options.threads)
    for name in [options.only] if options.only else STEPS:
        STEPS[name](settings)


if __name__ == "__main__":
    main()
