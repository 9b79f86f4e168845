"""The target of `accelerate launch`: the same as `visiontl train`."""

import sys

from visiontl.cli import main

if __name__ == "__main__":  # loader processes started by spawn import this file again
    sys.exit(main(["train", *sys.argv[1:]]))
