"""A row for each class of a set."""

from collections.abc import Sequence

from jaxcv.types import Cell, Table

_ALL, _WORST = 20, 10


def class_tables(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    worst_first: Sequence[Sequence[Cell]],
    by: str,
    note: str,
) -> list[Table]:
    """The table `per_class`; on a terminal the whole of up to 20 classes, of more the 10 worst.

    Args:
        columns: their names.
        rows: one a class, in the order of the classes.
        worst_first: those that can be compared, the worst first.
        by: by what they are.
        note: added to the title; its further lines are lines of the title.
    """
    if len(rows) <= _ALL:
        return [Table("per_class", f"class by class{note}", tuple(columns), rows)]
    worst = worst_first[:_WORST]
    title = f"the {len(worst)} of {len(rows):,} classes with the lowest {by}{note}"
    return [Table("per_class", "", tuple(columns), rows), Table("", title, tuple(columns), worst)]
