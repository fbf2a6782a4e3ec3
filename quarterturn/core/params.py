"""Typed model of params.yaml: every key with its unit and its range."""

import difflib
import re
import reprlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from quarterturn.core.errors import UserError, one_line

Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
RESERVED_LABELS = frozenset({"unlabelled", "unlabeled"})  # names of images without a class, in folders and metrics

YAML_ERRORS = (YAMLError, ValueError, LookupError, RecursionError)  # LookupError: `!!int ""`, `!!bool maybe`
CLASSIFIERS = ("transfer", "baseline")  # sections, stages and models that are compared


WEIGHTS_FOLDER = PurePosixPath("data/weights")  # a dependency of the stages that may start from one of its files


def _in_weights_folder(path: str | None) -> str | None:
    if path is not None and PurePosixPath(path).parent != WEIGHTS_FOLDER:
        raise ValueError(
            f"is {_short(path)}; allowed: null, or a file in {WEIGHTS_FOLDER}/ (`quarterturn fetch weights`)"
        )
    return path


# Schemes of URLs of images, with the extra of this package that reads there, and the modules that it brings. At
# http, DVC needs one file that has a version.
EXTRAS: dict[str, tuple[str, ...]] = {
    "s3": ("s3", "s3fs", "dvc_s3"),
    "gs": ("gs", "gcsfs", "dvc_gs"),
    "azure": ("az", "adlfs", "dvc_azure"),
    "https": (),
    "http": (),
}


def is_url(path: str) -> bool:
    """Return whether a path of images is a URL."""
    return "://" in path


def _reachable(path: str) -> str:
    scheme = path.partition("://")[0]
    if not is_url(path) or scheme in EXTRAS:
        return path
    kinds = "s3://bucket/prefix, gs://, azure:// (as DVC spells az://), or https:// with a .zip or .tar"
    raise ValueError(f"is {_short(path)}; allowed: a folder, .zip or .tar, {kinds}")


def with_group(name: str, pattern: str | None) -> str | None:
    """Return a regular expression; raise a `ValueError` unless it is one, or None, and has a group ``name``."""
    try:
        fits = pattern is None or name in re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError):  # the last two: of {99999999999}, and of brackets in brackets
        fits = False
    if not fits:
        raise ValueError(f"is {_short(pattern)}; allowed: null, or a regular expression with a group (?P<{name}>...)")
    return pattern


def _as_text(value: object) -> object:
    return str(value) if type(value) in (int, float) else value


LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000  # of a class; far enough apart, and exact enough as float32


def _as_class_weights(value: object) -> object:
    """Return the names of the classes as text and their weights as floats; that all are named is checked later."""
    if isinstance(value, str) and value in ("none", "balanced"):
        return value
    if isinstance(value, dict):
        weights = {_as_text(name): weight for name, weight in value.items()}
        if all(isinstance(name, str) and _is_weight(weight) for name, weight in weights.items()):
            return {name: float(weight) for name, weight in weights.items()}
    allowed = f"none, balanced, or for each class its weight, {LEAST_WEIGHT:g} to {MOST_WEIGHT:,}"
    raise ValueError(f"is {_short(value)}; allowed: {allowed}")


def _is_weight(value: Any) -> bool:
    return type(value) in (int, float) and LEAST_WEIGHT <= value <= MOST_WEIGHT


Text = Annotated[str, Field(min_length=1), BeforeValidator(_as_text)]  # YAML takes the class 7 for a number
LabelPattern = Annotated[str | None, AfterValidator(partial(with_group, "label"))]
GroupPattern = Annotated[str | None, AfterValidator(partial(with_group, "group"))]
Column = Text | None
ClassWeights = Annotated[Literal["none", "balanced"] | dict[str, float], BeforeValidator(_as_class_weights)]
ImagesPath = Annotated[str, Field(min_length=1), AfterValidator(_reachable)]
WeightsPath = Annotated[str | None, AfterValidator(_in_weights_folder)]


class Section(BaseModel):
    """Check one mapping in params.yaml: unknown keys and wrong types are errors, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ImageFolder(Section):
    """Locate the images and name their classes."""

    path: ImagesPath = Field(
        description="folder, .zip or .tar of images, or archives, here or at s3://, gs://, azure:// or https://"
    )
    labels: list[Text] = Field(min_length=2, description="class names; their order is the class index")
    image_size: int = Field(ge=8, le=1024, description="side of the stored square, pixels")
    max_rejected: float = Field(ge=0, le=1, description="largest tolerated fraction of unreadable images")

    @model_validator(mode="after")
    def labels_differ(self) -> Self:
        if len({label.casefold() for label in self.labels}) < len(self.labels):
            raise ValueError("data.labels names a class twice (case does not count)")
        for label in self.labels:
            if not label.isprintable():
                raise ValueError(f"data.labels has {label!r}, which cannot be printed; take another name")
            if label.casefold() in RESERVED_LABELS:
                raise ValueError(f"data.labels has {label!r}, which stands for no class; take another name")
        return self


class Data(ImageFolder):
    """Say where the images, their labels, groups and given parts stand."""

    tables: list[Annotated[str, Field(min_length=1)]] = Field(
        description="tables with a row for each image, paths inside data.path; []: labels.csv, if there is one"
    )
    image_column: Column = Field(
        description="column of the tables with the paths of the images: its name, or its number from 1; null: path"
    )
    label_column: Column = Field(
        description="column of the tables with the labels; null: none, but `label` in labels.csv"
    )
    label_pattern: LabelPattern = Field(
        description="regular expression with a group `label`, searched in the path of each image inside data.path;"
        " null: folders, or else prefixes of the file names, tell the labels"
    )
    group_column: Column = Field(description="column of the tables with the group of each image; null: none")
    group_pattern: GroupPattern = Field(
        description="regular expression with a group `group`, searched in the path of each image inside data.path;"
        " images with the same text in it, such as those of one patient, stay together in split and folds; null: none"
    )
    split_column: Column = Field(
        description="column of the tables with the part of each image, for split.by: given; null: lists and folders"
        " named train, val and test tell it"
    )
    ignore: list[Annotated[str, Field(min_length=1)]] = Field(
        description="patterns of files to leave out, such as masks: * stands for any text; with a slash, a pattern is"
        " matched with the path inside data.path, else with the name of each folder and file in it"
    )

    @classmethod
    def plain(cls, images: ImageFolder) -> Self:
        """Return the section for images whose labels stand in labels.csv, folders or prefixes."""
        nowhere = {name: None for name in cls.model_fields if name.endswith(("_column", "_pattern"))}
        return cls.model_validate(images.model_dump() | nowhere | {"tables": [], "ignore": []})


class Split(Section):
    """Divide the labelled images into training, validation and test."""

    val: Share = Field(
        description="fraction of the labelled images for validation; under cross-validation, only pretraining uses"
        " validation images: unlabelled ones if there are at least as many of them as labelled ones"
    )
    test: Share = Field(
        description="fraction of the labelled images for the test; under cross-validation, all are tested"
    )
    seed: Seed = Field(description="seed of the split and of the order in which labels are used")
    by: Literal["hash", "position", "given"] = Field(
        description="hash: by a hash of each image's content, or of its group; position: by name, val first, then"
        " train, test last; given: as the data say, never with cross-validation"
    )
    cross_validate_below: int = Field(
        ge=0, le=100_000, description="number of labelled images below which cross-validation is used; 0: never"
    )

    @model_validator(mode="after")
    def leaves_training(self) -> Self:
        if self.val + self.test >= 1:
            raise ValueError(f"split.val + split.test is {self.val + self.test:g}; it must be less than 1")
        return self


class RotateAugment(Section):
    """Define the rotation task."""

    angles: list[Literal[0, 90, 180, 270]] = Field(
        min_length=2, description="angles to distinguish, degrees counter-clockwise"
    )

    @model_validator(mode="after")
    def angles_differ(self) -> Self:
        if len(set(self.angles)) < len(self.angles):
            raise ValueError("rotate_augment.angles names an angle twice")
        return self


class Augmentation(Section):
    """Change training images at random, before they are rotated."""

    crop: float = Field(gt=0, le=1, description="side of the smallest random crop, fraction of the side")
    mirror: bool = Field(description="mirror half of the images horizontally")
    color: float = Field(ge=0, lt=1, description="largest relative change of brightness and contrast")


class Model(Section):
    """Define the network, which is the same in all three trainings."""

    architecture: str = Field(
        pattern=r"^[a-z0-9_]+$",
        description="convnet, or a model of timm whose features can be had block by block, such as resnet18,"
        " tf_efficientnet_lite0, convnext_atto or vit_tiny_patch16_224",
    )
    widths: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        min_length=1, max_length=8, description="channels of each convnet block; each block halves the side"
    )
    depth: int = Field(ge=1, le=8, description="convolutions in each convnet block")
    normalization: Literal["batch", "none"] = Field(description="normalization after each convolution of the convnet")
    grid: int = Field(
        ge=1, le=64, description="side of the grid of cells over which features are averaged before the head"
    )
    head: list[Annotated[int, Field(ge=1, le=4096)]] = Field(
        max_length=4, description="hidden widths of the head; []: linear"
    )
    dropout: float = Field(ge=0, lt=1, description="dropout probability in the hidden layers of the head")
    output: Literal["softmax", "sigmoid"] = Field(
        description="output of the head; sigmoid: a single output for two classes or two angles"
    )

    @property
    def minimum_size(self) -> int:
        """Return the smallest image side, in pixels, that the network can halve at each of its blocks."""
        return 2 ** len(self.widths) if self.architecture == "convnet" else 32


class TrainingPlan(Section):
    """Set the length and the speed of one training."""

    epochs: int = Field(ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(ge=2, le=65_536, description="images per step")
    learning_rate: float = Field(gt=0, le=10, description="peak learning rate of AdamW")
    weight_decay: float = Field(ge=0, le=10, description="decoupled weight decay of AdamW")
    schedule: Literal["cosine", "constant"] = Field(
        description="schedule of the learning rate; cosine: warm-up, then half a cosine"
    )
    averaging: float = Field(
        ge=0, lt=1, description="decay per step of the moving average of the weights; 0: no average"
    )
    layer_decay: float = Field(
        gt=0, le=1, description="factor of the learning rate for each block further from the head"
    )
    frozen_blocks: int = Field(
        ge=0, le=1000, description="number of the first blocks of layers that keep the weights the training starts from"
    )
    batch_norm: Literal["trained", "frozen"] = Field(
        description="statistics of batch normalisation; frozen: those of the weights that the training starts from",
    )


class StartingPlan(TrainingPlan):
    """Set where one training starts, its length and its speed."""

    weights: WeightsPath = Field(
        description="file in data/weights that the training starts from; null: random weights, for transfer those of"
        " pretrain"
    )


class Pretrain(StartingPlan):
    """Train the rotation classifier; with angles_per_image: all, each step sees its images at every angle."""

    epochs: int = Field(ge=0, le=100_000, description="passes over the training images; 0: no rotation is learnt")
    angles_per_image: Literal["all", "one"] = Field(
        description="all: every angle of an image in one batch; one: one angle per image, drawn once"
    )


class ClassifierPlan(StartingPlan):
    """Train a classifier; cross-validated, for 800 steps or more, 150 with frozen blocks."""

    label_fraction: Fraction = Field(description="fraction of the training labels to use")
    trainable: Literal["head", "all"] = Field(
        description="head: features frozen, those of images that are not augmented; if model.head is [], epochs and all"
        " keys below it are unused; all: all layers are trained"
    )
    class_weights: ClassWeights = Field(
        description="weights of the classes in the loss; balanced: each class counts the same; {CLASS: weight}: each"
        " class of data.labels as given. Unless none, epoch, block and penalty are chosen by balanced accuracy"
    )


class Transfer(ClassifierPlan):
    """Train with the pretrained features; cross-validated, for 800 steps or more, 150 with frozen blocks."""


class Baseline(ClassifierPlan):
    """Train the same network without rotation; cross-validated, for 800 steps or more, 150 with frozen blocks."""


class Params(Section):
    """Hold the content of params.yaml."""

    seed: Seed = Field(description="seed of initial weights, order of the batches and augmentation")
    data: Data
    split: Split
    rotate_augment: RotateAugment
    augmentation: Augmentation
    model: Model
    pretrain: Pretrain
    transfer: Transfer
    baseline: Baseline

    @model_validator(mode="after")
    def statistics_are_given(self) -> Self:
        for name in ("pretrain", "baseline"):
            plan = getattr(self, name)
            if plan.frozen_blocks > 0 and plan.weights is None:
                raise ValueError(f"{name}.frozen_blocks is {plan.frozen_blocks}, but {name}.weights is null: random")
            if plan.batch_norm == "frozen" and plan.weights is None:
                raise ValueError(
                    f"{name}.batch_norm is frozen, but {name}.weights is null: random weights have no statistics"
                )
        return self

    @model_validator(mode="after")
    def weights_name_the_classes(self) -> Self:
        for name in CLASSIFIERS:
            weights = getattr(self, name).class_weights
            if isinstance(weights, dict) and weights.keys() != {*self.data.labels}:
                raise ValueError(
                    f"{name}.class_weights is {_short(weights)}; allowed: none, balanced, or a weight for each class"
                    f" of data.labels, {_short(self.data.labels)}"
                )
        return self

    @model_validator(mode="after")
    def network_fits_images(self) -> Self:
        if self.data.image_size < self.model.minimum_size:
            raise ValueError(
                f"data.image_size is {self.data.image_size}; the network of the model section"
                f" needs at least {self.model.minimum_size} pixels"
            )
        return self


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check params.yaml.

    Raises:
        UserError: the file is unreadable or not YAML, or a key is unknown, missing, of the wrong type or out of range.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if "\n<<<<<<< " in f"\n{text}":
            raise UserError(f"{path} has a merge conflict, from the line `<<<<<<<` on; resolve it, and run again")
        values = YAML(typ="safe", pure=True).load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except YAML_ERRORS as error:
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from error
    return check_params(values, str(path))


def check_unchanged(params: Params, *sections: str) -> None:
    """Check, when a stage has ended, that params.yaml still has the values that the stage used.

    DVC records the values that the file has when the stage ends.

    Raises:
        UserError: one of the sections has changed.
    """
    now = load_params()
    if changed := [name for name in sections if getattr(now, name) != getattr(params, name)]:
        raise UserError(f"params.yaml: {', '.join(changed)} changed while this ran; run it again")


def check_params(values: object, source: str = "params.yaml") -> Params:
    """Return the parsed YAML as `Params`; ``source`` names the file in error messages.

    Raises:
        UserError: with the key, its value and the allowed values.
    """
    if not isinstance(values, dict):
        raise UserError(f"{source} must be a mapping of sections, not {type(values).__name__}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        # A misspelt key causes two errors, an unknown and a missing key: report the former, which allows a suggestion.
        first = min(problems, key=lambda problem: problem["type"] not in ("extra_forbidden", "invalid_key"))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{source}: {_explain(first)}{more}") from error


def _explain(problem: Any) -> str:
    key = one_line(".".join(str(part) for part in problem["loc"]))
    match problem["type"]:
        case "invalid_key":
            return f"unknown key {key}; keys are text"
        case "extra_forbidden":
            near = difflib.get_close_matches(key, _known_keys(), n=1)
            return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
        case "missing":
            return f"{key} is missing"
        case "value_error":
            message = one_line(problem["ctx"]["error"])
            return f"{key} {message}" if message.startswith("is ") else message  # of one key alone
    allowed = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{key} is {_short(problem['input'])}; allowed: {allowed}"


def _short(value: object) -> str:
    """Return the value on one line, shortened: aliases in YAML can expand a few bytes to gigabytes."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, 80, 80
    try:
        return short.repr(value)[:80]
    except ValueError:  # Python does not convert integers of more than 4,300 digits to text
        return "a number of thousands of digits"


def _known_keys(model: type[BaseModel] = Params, prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _known_keys(field.annotation, f"{prefix}{name}.")
    return keys
