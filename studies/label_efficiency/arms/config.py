"""The typed model of the study's own params.yaml."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Augmentation, Data, Fraction, Model, Section, TrainingPlan

ROOT = Path(__file__).resolve().parents[3]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(Section):
    """How one network is trained: a fixed number of steps, no validation."""

    steps: int = Field(ge=1, description="of the optimizer")
    batch_size: int = Field(ge=2, description="images per step")
    learning_rate: float = Field(gt=0, description="of AdamW, at its peak")
    weight_decay: float = Field(ge=0, description="AdamW's decoupled decay")
    averaging: float = Field(ge=0, lt=1, description="decay per step of the weights' moving average")
    crop: float = Field(gt=0, le=1, description="side of the smallest random crop, fraction of the side")
    color: float = Field(ge=0, lt=1, description="largest relative change of brightness and contrast")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate per block from the head"
    )

    @property
    def augmentation(self) -> Augmentation:
        """Crops and colours as searched for; mirrored always."""
        return Augmentation(crop=self.crop, mirror=True, color=self.color)

    def plan(self, images: int) -> TrainingPlan:
        """As many epochs over so many images as make up the steps, or a few more."""
        per_epoch = max(1, min(-(-images // self.batch_size), images // 2))
        return TrainingPlan(
            epochs=-(-self.steps // per_epoch),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule="cosine",
            averaging=self.averaging,
        )


class Arm(Section):
    """Recipes for few and for many labels."""

    few_up_to: Share = Field(description="largest fraction for which the recipe for few is taken; 0: none")
    few: Recipe
    many: Recipe

    def recipe(self, fraction: float) -> Recipe:
        """The one for this fraction of the labels."""
        return self.few if fraction <= self.few_up_to else self.many


class Probe(Section):
    """Linear heads on frozen features."""

    block: int = Field(ge=1, description="whose head is reported as the arm's, from 1")
    few_up_to: Share = Field(description="largest fraction for which the penalty for few is taken; 0: none")
    few: float = Field(gt=0, description="L2 penalty of the weights, with few labels")
    many: float = Field(gt=0, description="the same with many")


class Auxiliary(Section):
    """Rotation learnt beside the classes, as an auxiliary loss."""

    weight: float = Field(gt=0, description="of its loss")
    few_up_to: Share = Field(description="in place of scratch's, which it has the recipes of; 0: none")
    fractions: list[Fraction] = Field(description="of the labels, at which it is tried")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(description="repetitions")


class Study(Section):
    """All of the study's params.yaml."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", description="of the files of results")
    folder: str = Field(description="that holds this file, from the project's")
    metrics: str = Field(description="JSON file of the results, from the project's folder")
    data: Data
    model: Model
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=2, description="repetitions")
    folds: int = Field(ge=2, description="test parts that together are all labelled images")
    fractions: list[Fraction] = Field(min_length=2, description="of the labels outside the test part")
    primary: Fraction = Field(description="fraction of the one comparison that was named beforehand")
    pretrain: Recipe
    scratch: Arm
    fine_tuned: Arm
    probe: Probe
    auxiliary: Auxiliary
    given: list[str] = Field(max_length=1, description="a backbone: torchvision weights, or a model file")

    @property
    def beside_auxiliary(self) -> Arm:
        """From scratch as it is compared with an auxiliary loss."""
        return self.scratch.model_copy(update={"few_up_to": self.auxiliary.few_up_to})

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        if self.fractions != sorted(set(self.fractions)) or self.primary not in self.fractions:
            raise ValueError("fractions must rise, and primary must be one of them")
        if self.data.image_size < self.model.minimum_size:
            raise ValueError(f"data.image_size must be at least {self.model.minimum_size} for this model")
        return self


def load_study(folder: Path) -> Study:
    """Read and check the folder's params.yaml; raises a `UserError` that names what is wrong."""
    path = folder / "params.yaml"
    try:
        return Study.model_validate(YAML(typ="safe", pure=True).load(path.read_text("utf-8")))
    except (OSError, YAMLError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
