"""The disk as tests need it."""

import os


def leave_out_fsync() -> None:
    """Make `os.fsync` do nothing in this process.

    It matters only when a machine loses power, and takes milliseconds for each file. Tests of its
    failure replace it themselves.
    """
    os.fsync = lambda handle: None
