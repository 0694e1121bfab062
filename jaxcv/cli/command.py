"""The command `jaxcv`, as `launch.py` of a clone."""

import gc
import sys


def run() -> None:
    """Run the command line in a process that is its own."""
    gc.disable()  # a fifth of a warm start otherwise; the loop turns it on again after its first step
    from jaxcv.cli import interrupts

    interrupts.exit_at_once()
    from jaxcv.cli.main import main

    sys.exit(main())
