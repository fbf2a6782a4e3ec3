"""The search for recipes: every arm tries as many, on the same sets, with images that no seed tests."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pandas as pd

from studies.map.arms import Recipe, Recipes, Subject
from studies.map.parts import BUDGETS
from studies.map.results import Answer

SEARCHED, SEED = ("cats-dogs", "sign-digits", "bee-pollen"), 1000
FEW, MANY = 10, 50  # labels a class; recipes of the first are for up to MOST_FEW
MOST_FEW = 25
WORTH = 0.01  # of accuracy: for less, a recipe with more steps is not taken
_CONVNET = [Recipe(steps, 32, rate) for steps in (250, 750, 2250) for rate in (0.002, 0.006)]
_IMAGENET = [
    Recipe(steps, 16, rate, frozen=6, batch_norm="frozen", averaging=0.9)
    for steps in (50, 150)
    for rate in (1e-4, 3e-4, 1e-3)
]
# Work → the arm whose recipe it searches, and the candidates. What ImageNet's network takes, it takes after rotation.
TRIED: Mapping[str, tuple[str, list[Recipe]]] = {
    "scratch": ("scratch", _CONVNET),
    "rotation": ("rotation fine-tuned", _CONVNET),
    "imagenet fine-tuned": ("imagenet fine-tuned", _IMAGENET),
}


def name_of(arm: str, recipe: Recipe) -> str:
    """Return the name of an arm with one of its recipes in the table of the search."""
    return f"{arm}, {recipe.steps} steps at {recipe.learning_rate:g}"


def tried(subject: Subject, work: str) -> Iterator[Answer]:
    """Train and test each candidate of a piece of work at few and at many labels."""
    arm, candidates = TRIED[work]
    start = subject.started(work)
    for recipe in candidates:
        one = replace(subject, recipes={arm: {FEW: recipe, MANY: recipe}})
        for answer in one.trained(arm, start):
            yield answer._replace(arm=name_of(arm, recipe))


def best(found: pd.DataFrame) -> dict[str, dict[int, Recipe]]:
    """Return, by arm, the recipes for few and for many labels: the fewest steps within `WORTH` of the best mean."""
    means = found.groupby(["arm", "budget"])["accuracy"].mean()
    chosen: dict[str, dict[int, Recipe]] = {}
    for arm, candidates in TRIED.values():
        chosen[arm] = {}
        for budget in (FEW, MANY):
            of = {recipe: means[name_of(arm, recipe), budget] for recipe in candidates}
            close = [recipe for recipe in candidates if of[recipe] > max(of.values()) - WORTH]
            chosen[arm][budget] = min(close, key=lambda recipe: (recipe.steps, -of[recipe]))
    return chosen


def recipes(found: pd.DataFrame) -> Recipes:
    """Return the recipe of each arm at each budget. ImageNet's network is fine-tuned at two, since it is slow."""
    chosen = best(found)
    every = {arm: {budget: of[FEW if budget <= MOST_FEW else MANY] for budget in BUDGETS} for arm, of in chosen.items()}
    slow = chosen["imagenet fine-tuned"]
    return every | {"imagenet fine-tuned": slow, "imagenet-rotation fine-tuned": slow}
