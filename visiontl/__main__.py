"""`python -m visiontl ...`: the target of `accelerate launch -m visiontl` and `torchrun -m visiontl` too."""

import sys

from visiontl.cli import main

if __name__ == "__main__":  # loader processes started by spawn import this file again
    sys.exit(main())
