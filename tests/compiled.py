"""What stands in the text of a compiled program."""

import re


def convolutions_of_the_library(text: str) -> list[str]:
    """Fusions that XLA hands to YNNPACK with a convolution in them; the text names the library where it calls them."""
    called = {f"%{name}" for name in re.findall(r"%ynn_fusion\S* = .* calls=%([\w.-]+)", text)}
    bodies = {body.lstrip().split(" ", 1)[0]: body for body in text.split("\n\n")}
    return [bodies[name] for name in called if " convolution(" in bodies[name]]
