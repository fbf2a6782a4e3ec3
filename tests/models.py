"""Small networks, and the names of all parameters."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from quarterturn.core.params import Model, TrainingPlan


def sized(widths: list[int], **changes: Any) -> Model:
    """The model section with these widths: one convolution a block, a linear head, unless ``changes`` say otherwise."""
    plain = {"architecture": "convnet", "depth": 1, "normalization": "batch", "grid": 1, "head": [], "dropout": 0.0}
    return Model(**{**plain, "output": "softmax", "widths": widths, **changes})


def training_plan(
    epochs: int, batch_size: int, learning_rate: float, weight_decay: float, averaging: float
) -> TrainingPlan:
    """A plan of a network that is trained whole, at one rate on a cosine."""
    return TrainingPlan(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        schedule="cosine",
        averaging=averaging,
        layer_decay=1.0,
        frozen_blocks=0,
        batch_norm="trained",
    )


def leaves(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every parameter as a dotted name and its value."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
