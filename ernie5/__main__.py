"""`python -m ernie5` and `torchrun -m ernie5`: the same as the command `ernie5`."""

import sys

from ernie5.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
