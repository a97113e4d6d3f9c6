"""`python squeeze.py ...` is `jaxdd squeeze ...`; `--help` lists the flags."""

import sys

from jaxdd.cli.main import main

if __name__ == "__main__":
    sys.exit(main(script="squeeze"))
