"""`python launch.py EXPERIMENT [name=value ...] [--flag ...]`: the command line lives in `jaxcv.cli.main`."""

from jaxcv.cli.command import run

if __name__ == "__main__":
    run()
