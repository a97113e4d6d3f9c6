"""`python relabel.py ...` is `jaxdd relabel ...`; `--help` lists the flags."""

import sys

from jaxdd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(script="relabel"))
