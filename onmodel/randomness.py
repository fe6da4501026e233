"""Counter-based random draws: each comes from (seed, purpose, counters), never from a generator's
running state.

So resuming, sharding over processes and re-ordering work do not change a result.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the studio's server starts without numpy
    import numpy as np


def generator(seed: int, purpose: str, *counters: int | str) -> "np.random.Generator":
    """A fresh Philox generator for one purpose, e.g. `generator(seed, "timestep", step)`."""
    import numpy as np

    text = "\x1f".join(str(part) for part in (seed, purpose, *counters))
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def normal(shape: tuple[int, ...], seed: int, purpose: str, *counters: int | str) -> "np.ndarray":
    """Standard normal float32 array of `shape`."""
    import numpy as np

    return generator(seed, purpose, *counters).standard_normal(shape, dtype=np.float32)
