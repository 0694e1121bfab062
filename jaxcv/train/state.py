"""All that changes while training, as one pytree."""

from typing import Any

from flax import struct


@struct.dataclass
class TrainState:
    """What a step maps to the next one, and what a checkpoint holds."""

    step: Any
    """int32 scalar: batches trained on so far."""
    params: Any
    collections: Any
    """The model's other variables, such as batch statistics."""
    opt_state: Any
    key: Any
    """Randomness of step s is `fold_in(key, s)`."""
    finite: Any
    """bool scalar: False once a loss or gradient was not finite; the state then stays as it was before that step."""
    ema: Any = None
    """Moving average of all the model's variables, or None."""

    @property
    def evaluation_variables(self) -> dict[str, Any]:
        """The model's variables for evaluation: the averaged ones where there are some."""
        return {"params": self.params, **self.collections} if self.ema is None else self.ema
