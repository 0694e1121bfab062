"""The command `jaxcv`, as `launch.py` of a clone."""

import gc
import os
import sys

_NOBODY_READS = 141
"""What a shell has for a program that SIGPIPE ends, such as the first of `jaxcv --help | head`."""


def run() -> None:
    """Run the command line in a process that is its own."""
    gc.disable()  # a fifth of a warm start otherwise; the loop turns it on again after its first step
    from jaxcv.cli import interrupts

    interrupts.exit_at_once()
    from jaxcv.cli.main import main

    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        code = _NOBODY_READS
    sys.exit(code)
