"""Many runs from one command.

space   what was typed -> trials
plan    trials -> programs that are compiled once each
grid    every trial in turn in this process, one table at the end
"""

from jaxcv.sweep.grid import run_trials
from jaxcv.sweep.plan import Plan, plan
from jaxcv.sweep.space import folder_name, parse_overrides, trials

__all__ = ["Plan", "folder_name", "parse_overrides", "plan", "run_trials", "trials"]
