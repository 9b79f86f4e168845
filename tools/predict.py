"""The same as `visiontl predict`, for `accelerate launch`."""

import sys

from visiontl.cli import main

if __name__ == "__main__":  # loader processes started by spawn import this file again
    sys.exit(main(["predict", *sys.argv[1:]]))
