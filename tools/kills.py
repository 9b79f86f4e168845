"""SIGKILL at random moments, then resume: the same as `python -m visiontl.testing.kills`."""

import sys

from visiontl.testing.kills import main

if __name__ == "__main__":
    sys.exit(main())
