"""Many runs from one command.

space     what was typed -> alternatives and ranges
search    a space -> trials: grid, random, TPE, CMA-ES, the file's own; `sampling` says it in Optuna's words
plan      trials -> programs that are compiled once each
ledger    an Optuna study: who has which trial, and how it ended; `owner` tells whether he lives
pruning   which trials end early
trial     one trial, from claim to end
engine    trials in turn in this process
outcomes  the trials as rows; `pictures` draws them, `live` shows them meanwhile
command   all of this for one command: `command.run(command.Sweep(...), reporter)`

Only what a single run needs is imported here: Optuna takes its time.
"""

from jaxcv.sweep.plan import Plan, plan
from jaxcv.sweep.search import Search, make_search
from jaxcv.sweep.space import Range, folder_name, own_trials, parse_overrides, trials

__all__ = ["Plan", "Range", "Search", "folder_name", "make_search", "own_trials", "parse_overrides", "plan", "trials"]
