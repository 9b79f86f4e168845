"""Checkpoints and models damaged in every way: the same as `python -m visiontl.testing.damage`."""

import sys

from visiontl.testing.damage import main

if __name__ == "__main__":
    sys.exit(main())
