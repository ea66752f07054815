"""`python -m museway_platform COMMAND …`: the operator's commands where the console script is not on PATH."""

import sys

from museway.cli import main

if __name__ == "__main__":
    sys.exit(main())
