"""The command line, `jaxcv WHAT [name=value ...] [--flag ...]`, of which `launch.py` is the name in a clone.

command        the command `jaxcv`
targets        what a command line is about, and what to type instead
flags          the flags that there are, and which do not go together
opening        the experiment of a file or of a run's folder
main           words to what is to be done, errors to lines and exit codes
sweeping       several values of a hyperparameter: the search, the sweep
dry_run        all that can be known before the first step
preview_data   augmented training examples with their targets
inference      a trained run used again: evaluated, exported, shown pictures
explain        what the answers of a classifier's run depend on, drawn
picture_files  the files of --predict
interrupts     Ctrl-C and SIGTERM while nothing can be lost
disk           what the system refuses to read or write, in one line
"""
