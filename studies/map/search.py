"""The search for recipes: every arm tries as many, on the same sets, with images that no seed tests."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from studies.map.arms import ROTATION, Answer, Recipe, Recipes, Subject
from studies.map.parts import BUDGETS

SEARCHED, SEED = ("cats-dogs", "sign-digits", "bee-pollen"), 1000
FEW, MANY = 10, 50  # labels a class; recipes of the first are for up to MOST_FEW
MOST_FEW = 25
WORTH = 0.01  # of accuracy: for less, a recipe that takes longer is not taken
_CONVNET = [Recipe(steps, 32, rate) for steps in (250, 750, 2250) for rate in (0.002, 0.006)]
_IMAGENET = [
    Recipe(steps, 16, rate, frozen=6, batch_norm="frozen", averaging=0.9)
    for steps in (50, 150)
    for rate in (1e-4, 3e-4, 1e-3)
]
ROTATED = "imagenet-rotation"
_ROTATION = ROTATION[ROTATED]
# Work → the arm whose recipe it searches, and the candidates: of the last, for learning rotations. What ImageNet's
# network takes on labels, it takes after rotation too.
TRIED: Mapping[str, tuple[str, list[Recipe]]] = {
    "scratch": ("scratch", _CONVNET),
    "rotation": ("rotation fine-tuned", _CONVNET),
    "imagenet fine-tuned": ("imagenet fine-tuned", _IMAGENET),
    ROTATED: (
        "imagenet-rotation frozen",
        [
            _ROTATION,
            replace(_ROTATION, learning_rate=1e-3),
            replace(_ROTATION, frozen=4),
            replace(_ROTATION, frozen=4, steps=3 * _ROTATION.steps),
            replace(_ROTATION, frozen=4, batch_norm="trained"),
            replace(_ROTATION, frozen=0),
        ],
    ),
}


def name_of(arm: str, recipe: Recipe) -> str:
    """Return the name of an arm with one of its recipes in the table of the search."""
    groups = [f"{recipe.frozen} groups frozen"] if recipe.frozen else []
    statistics = ["statistics frozen"] if recipe.batch_norm == "frozen" else []
    return ", ".join([arm, f"{recipe.steps} steps at {recipe.learning_rate:g}", *groups, *statistics])


def tried(subject: Subject, work: str) -> Iterator[Answer]:
    """Train and test each candidate of a piece of work at few and at many labels."""
    arm, candidates = TRIED[work]
    subject = replace(subject, budgets=[budget for budget in subject.budgets if budget in (FEW, MANY)])
    start = subject.started(work)
    for recipe in candidates:
        if work == ROTATED:
            answers = subject.imagenet_rotation_frozen(recipe)
        else:
            answers = replace(subject, recipes={arm: {FEW: recipe, MANY: recipe}}).trained(arm, start)
        for answer in answers:
            yield answer._replace(arm=name_of(arm, recipe))


def best(found: pd.DataFrame) -> dict[str, dict[int, Recipe]]:
    """Return, by arm, the recipes for few and for many labels: the cheapest within `WORTH` of the best mean."""
    means = found.groupby(["arm", "budget"])["accuracy"].mean()
    return {
        arm: {
            budget: cheapest({recipe: means[name_of(arm, recipe), budget] for recipe in candidates})
            for budget in (FEW, MANY)
        }
        for work, (arm, candidates) in TRIED.items()
        if work != ROTATED
    }


def rotations(found: pd.DataFrame) -> dict[Recipe, float]:
    """Return the mean accuracy of each candidate for the rotation training of ImageNet's network."""
    means = found.groupby("arm")["accuracy"].mean()
    arm, candidates = TRIED[ROTATED]
    return {recipe: float(means[name_of(arm, recipe)]) for recipe in candidates}


def cheapest(accuracies: Mapping[Recipe, float]) -> Recipe:
    """Return the recipe that costs the least within `WORTH` of the best accuracy."""
    close = [recipe for recipe, accuracy in accuracies.items() if accuracy > max(accuracies.values()) - WORTH]
    return min(close, key=lambda recipe: (recipe.cost, -accuracies[recipe]))


def recipes(found: pd.DataFrame) -> Recipes:
    """Return the recipe of each arm at each budget. ImageNet's network is fine-tuned at two, since it is slow."""
    chosen = best(found)
    every = {arm: {budget: of[FEW if budget <= MOST_FEW else MANY] for budget in BUDGETS} for arm, of in chosen.items()}
    slow = chosen["imagenet fine-tuned"]
    return every | {"imagenet fine-tuned": slow, "imagenet-rotation fine-tuned": slow}
