"""Many runs from one command.

space     overrides of the command line -> alternatives and ranges
search    a space -> trials: grid, random, TPE, CMA-ES, the file's own; `sampling` translates it to Optuna
plan      trials -> programs that are compiled once each
ledger    an Optuna study: the owner and the result of each trial; `owner` tells whether a process is alive
pruning   trials that are stopped early
trial     one trial, from claim to end
engine    trials one after another in this process
outcomes  the trials as rows; `pictures` draws them, `contact_sheet` shows what they made, `live` shows
          them while the sweep runs
command   a whole sweep: `command.run(command.Sweep(...), reporter)`

Only what a single run needs is imported here, because importing Optuna takes long.
"""

from jaxcv.sweep.plan import Plan, plan
from jaxcv.sweep.search import Search, make_search
from jaxcv.sweep.space import Range, UnknownHyperparameter, folder_name, own_trials, parse_overrides, run_folder, trials

__all__ = [
    "Plan",
    "Range",
    "Search",
    "UnknownHyperparameter",
    "folder_name",
    "run_folder",
    "make_search",
    "own_trials",
    "parse_overrides",
    "plan",
    "trials",
]
