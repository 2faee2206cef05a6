"""`python -m mkisod` is the command `mkisod`."""

import sys

from mkisod.cli import main

sys.exit(main(sys.argv[1:]))
