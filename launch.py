"""`python launch.py EXPERIMENT.py [name=value ...] [--flag ...]`: the command line lives in `jaxcv.launch`."""

import gc
import sys

gc.disable()  # a fifth of a warm start otherwise; the loop turns it on again after its first step

from jaxcv import interrupts  # noqa: E402

if __name__ == "__main__":
    interrupts.exit_at_once()
    from jaxcv.launch import main

    sys.exit(main())
