"""`python launch.py EXPERIMENT.py [name=value ...] [--flag ...]`: the command line lives in `jaxcv.launch`."""

import sys

from jaxcv.launch import main

if __name__ == "__main__":
    sys.exit(main())
