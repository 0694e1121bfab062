"""`python launch.py EXPERIMENT.py [name=value ...] [--flag ...]`: the command line lives in `jaxcv.cli.main`."""

import gc
import sys

gc.disable()  # a fifth of a warm start otherwise; the loop turns it on again after its first step

from jaxcv.cli import interrupts  # noqa: E402

if __name__ == "__main__":
    interrupts.exit_at_once()
    from jaxcv.cli.main import main

    sys.exit(main())
