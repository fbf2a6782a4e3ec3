"""Typed model of the study's own params: silhouettes.yaml and photos.yaml."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Augmentation, Fraction, ImageFolder, Model, Section, TrainingPlan

HERE = Path(__file__).resolve().parents[1]
Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(Section):
    """Describe the training of one network: a fixed number of steps, without validation."""

    steps: int = Field(ge=1, description="steps of the optimizer")
    batch_size: int = Field(ge=2, description="images per step")
    learning_rate: float = Field(gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(ge=0, description="decoupled weight decay of AdamW")
    averaging: float = Field(ge=0, lt=1, description="decay per step of the moving average of the weights")
    crop: float = Field(gt=0, le=1, description="side of the smallest random crop, fraction of the side")
    color: float = Field(ge=0, lt=1, description="largest relative change of brightness and contrast")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="factor of the learning rate per block from the head"
    )

    @property
    def augmentation(self) -> Augmentation:
        """Return the augmentation: crops and colours of the recipe, and mirroring."""
        return Augmentation(crop=self.crop, mirror=True, color=self.color)

    def plan(self, images: int) -> TrainingPlan:
        """Return a plan with the smallest number of epochs over ``images`` images that gives at least `steps` steps."""
        per_epoch = max(1, min(-(-images // self.batch_size), images // 2))
        return TrainingPlan(
            epochs=-(-self.steps // per_epoch),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule="cosine",
            averaging=self.averaging,
            batch_norm="trained",
            layer_decay=self.layer_decay,
            frozen_blocks=0,
        )


class Arm(Section):
    """Hold the recipes for few and for many labels, and those for fractions of the labels that have their own."""

    few_up_to: Share = Field(description="largest fraction for which the recipe for few is taken; 0: none")
    few: Recipe
    many: Recipe
    between: dict[str, Recipe] = Field(default={}, description="recipes by the fraction of the labels, such as '0.25'")

    @property
    def searched(self) -> dict[str, Recipe]:
        """Return the recipes by the number of labels at which each was searched: few, many, or a fraction."""
        return {"few": self.few, "many": self.many, **self.between}

    def recipe(self, fraction: float) -> Recipe:
        """Return the recipe for this fraction of the labels."""
        return self.between.get(f"{fraction:g}") or (self.few if fraction <= self.few_up_to else self.many)


class Probe(Section):
    """Define the linear heads on frozen features."""

    block: int = Field(ge=1, description="block, from 1, whose head is the arm's result")
    few_up_to: Share = Field(description="largest fraction for which the penalty for few is taken; 0: none")
    few: float = Field(gt=0, description="L2 penalty of the weights, with few labels")
    many: float = Field(gt=0, description="L2 penalty of the weights, with many labels")


class Auxiliary(Section):
    """Define the auxiliary rotation loss, trained together with the classes."""

    weight: float = Field(gt=0, description="weight of the auxiliary loss")
    few_up_to: Share = Field(description="replaces that of scratch, whose recipes are used; 0: none")
    fractions: list[Fraction] = Field(description="fractions of the labels to try")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(description="repetitions")


class Study(Section):
    """Hold the content of a file of params."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9-]*$", description="name of the result files")
    data: ImageFolder
    model: Model
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=2, description="repetitions")
    folds: int = Field(ge=2, description="test parts that together are all labelled images")
    fractions: list[Fraction] = Field(min_length=2, description="fractions of the labels outside the test part")
    primary: Fraction = Field(description="fraction of the primary comparison, chosen before the study")
    pretrain: Recipe
    scratch: Arm
    fine_tuned: Arm
    probe: Probe
    auxiliary: Auxiliary
    given: list[str] = Field(max_length=1, description="a backbone: a weights file, or a model file")

    @property
    def arms(self) -> dict[str, Arm]:
        """Return the arms whose recipes are searched."""
        return {"scratch": self.scratch, "fine_tuned": self.fine_tuned}

    @property
    def beside_auxiliary(self) -> Arm:
        """Return the arm from scratch that the auxiliary loss is compared with."""
        return self.scratch.model_copy(update={"few_up_to": self.auxiliary.few_up_to, "between": {}})

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        if self.fractions != sorted(set(self.fractions)) or self.primary not in self.fractions:
            raise ValueError("fractions must rise, and primary must be one of them")
        if self.data.image_size < self.model.minimum_size:
            raise ValueError(f"data.image_size must be at least {self.model.minimum_size} for this model")
        return self


def add_options(parser: ArgumentParser) -> None:
    """Add the options that say which images a study is made on, for `study_of`."""
    parser.add_argument("--data", default="", help="folder or .zip of images; none: silhouettes")
    parser.add_argument("--name", default="", help="of the params and the results, with DATA (default: photos)")
    parser.add_argument("--seeds", type=int, default=0, help="number of repetitions, with DATA; 0: as in the params")


def study_of(options: Namespace) -> Study:
    """Read the params of a study: silhouettes.yaml; for other images NAME.yaml, or photos.yaml if there is none.

    Raises:
        UserError: there are no such images, or a value is not allowed.
    """
    if options.data and not Path(options.data).exists():
        raise UserError(f"DATA: there is no {options.data}")
    if not options.data and (options.name or options.seeds):
        raise UserError("NAME and SEEDS are for other images; say which: make study DATA=folder-or-zip NAME=…")
    name = options.name or ("photos" if options.data else "silhouettes")
    own = HERE / f"{name}.yaml"
    return load_study(own if own.exists() else HERE / "photos.yaml", name, options.data, options.seeds)


def load_study(path: Path, name: str = "", data: str = "", seeds: int = 0) -> Study:
    """Read and check a file of params.

    Args:
        path: of the file.
        name: of the results; "": that in the file.
        data: folder or .zip of images; "": that in the file.
        seeds: number of repetitions; 0: those in the file.

    Raises:
        UserError: it cannot be read, or a value is not allowed; names the key.
    """
    try:
        values = Study.model_validate(YAML(typ="safe", pure=True).load(path.read_text("utf-8"))).model_dump()
        values["name"] = name or values["name"]
        values["data"]["path"] = data or values["data"]["path"]
        if seeds:
            few = [seed for seed in values["auxiliary"]["seeds"] if seed < seeds]
            values["seeds"], values["auxiliary"]["seeds"] = list(range(seeds)), few
        return Study.model_validate(values)
    except (OSError, YAMLError) as error:
        raise UserError(f"{path} cannot be read: {one_line(error)}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
