"""The range that the docstring of a hyperparameter states, and values outside it.

What is understood: an interval after "in", as in "a fraction in (0, 1]"; a meaning that begins with "probability"; a
learning rate, which is not negative; numbers of examples a step, of batches trained on and of updates, at least 1.
"""

import math
import re

_INTERVAL = re.compile(r"\bin ([\[(])(-?[\d.]+), (-?[\d.]+|infinity)([\])])")
_KNOWN = (
    (r"probability\b", ("[", 0.0, 1.0, "]")),
    (r".*\blearning rate\b", ("[", 0.0, math.inf, ")")),
    (r"(examples a step|batches trained on|updates of the parameters)\b", ("[", 1.0, math.inf, ")")),
)


def outside(value: int | float, meaning: str) -> str | None:
    """What is expected instead of a value that its docstring excludes; None where it is fine, or none is stated."""
    if (stated := _INTERVAL.search(meaning)) is not None:
        left, low, high, right = stated[1], float(stated[2]), float(stated[3]), stated[4]
    else:
        known = next((interval for pattern, interval in _KNOWN if re.match(pattern, meaning)), None)
        if known is None:
            return None
        left, low, high, right = known
    fits = (value >= low if left == "[" else value > low) and (value <= high if right == "]" else value < high)
    if fits:
        return None
    if high == math.inf:
        return f"{'at least' if left == '[' else 'above'} {low:g}"
    return f"a number in {left}{low:g}, {high:g}{right}"
