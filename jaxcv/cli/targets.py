"""What a command line is about: an experiment's file, the name of one that comes with jaxcv, or a run's folder."""

import ast
import difflib
import functools
import textwrap
from collections.abc import Iterable
from pathlib import Path

from jaxcv.errors import UserError

_PACKAGE = Path(__file__).parents[1]
FLAGS = {
    "--epochs": "training is counted in steps, which are batches: steps=N",
    "--resume": "--resume RUN goes on from the end of another run, with more steps=N; an interrupted run goes on when "
    "its command is given again",
    "--train": "without a flag, an experiment is trained",
    "--test": "it is called --evaluate",
    "--config": "a configuration is the experiment's file and name=value words",
}
"""Flags of other programs, by what to type here."""


@functools.cache
def experiments() -> dict[str, Path]:
    """Those that come with jaxcv, by name: of a clone its own, else those inside the installed package."""
    for folder in (_PACKAGE.parent / "experiments", _PACKAGE / "experiments"):
        if (folder / "lenet.py").is_file():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}


def is_target(word: str) -> bool:
    """Whether a word with an equals sign is a file or folder nevertheless."""
    path = Path(word)
    return (word.endswith(".py") and path.is_file()) or (path / "run.json").is_file()


def find(word: str) -> Path:
    """The file or the run's folder that a word means.

    Raises:
        UserError: none; names near ones.
    """
    path = Path(word)
    if path.is_file() or (path / "run.json").is_file():
        return path
    if word in experiments():
        return experiments()[word]
    if path.is_dir():
        from jaxcv.runs.stored import facts_of

        facts_of(path)  # raises, and names the runs below
    near = sorted(str(p) for p in path.parent.glob("*.py")) if word.endswith(".py") and path.parent.is_dir() else []
    near = near or difflib.get_close_matches(path.stem, experiments(), n=3) or list(experiments())
    raise UserError(f"{word}: no such file, experiment or folder of a run; there are {', '.join(near)}")


def listing(program: str) -> str:
    """Every experiment that comes with jaxcv, and the first sentence of its claim."""
    lines = [f"usage: {program} EXPERIMENT [name=value ...] [--flag ...]", ""]
    for name, path in experiments().items():
        lines += textwrap.wrap(
            _claim(path), 100, initial_indent=f"  {name:<15} ", subsequent_indent=" " * 18, break_long_words=False
        )
    return "\n".join(
        [*lines, "", "EXPERIMENT: one of these, a file of your own, or the folder of a run; --help for more"]
    )


def _claim(path: Path) -> str:
    """The first line of an experiment's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]


def unknown_flag(word: str, flags: Iterable[str], after: str) -> str:
    """What to type instead of a flag that there is not.

    Args:
        word: as it was typed.
        flags: all that there are.
        after: the word behind it, or nothing.
    """
    flag, _, value = word.partition("=")
    if flag in FLAGS:
        return f"unknown flag {flag}: {FLAGS[flag]}"
    if near := difflib.get_close_matches(flag, flags, n=1, cutoff=0.75):
        return f"unknown flag {flag}: did you mean {near[0]}?"
    if flag.startswith("--") and (name := flag[2:].replace("-", "_")).isidentifier():
        value = value or (after if after and not after.startswith("-") and "=" not in after else "...")
        return f"unknown flag {flag}: a hyperparameter is written {name}={value}; --help lists the flags"
    return f"unknown flag {word}; --help lists them"


def other_networks(error: UserError, name: str, file: Path) -> UserError:
    """An unknown `network` or `model` of an experiment with one: other networks are other files."""
    family = file.stem.partition("_")[0]
    others = [path.stem for path in sorted(file.parent.glob(f"{family}*.py")) if path != file]
    if name not in ("network", "model", "arch", "version") or not others:
        return error
    return UserError(f"unknown hyperparameter {name!r}: another network is another experiment: {', '.join(others)}")
