"""Chooses the recipes: `python -m studies.label_efficiency.search FOLDER`, for the params in the folder.

Every arm gets the same budget, at few labels (the primary fraction) and at many (all): `DRAWS` random recipes on one
tuning seed, the best of them on more (successive halving: Jamieson and Talwalkar, AISTATS 2016). A winner at an edge of
the range is then varied beyond it, until that does not help by `WORTH`; of those within `WORTH` of the best, the
shortest training wins. At last, both winners of an arm are compared, from the smallest fraction on, until that for
many is better by `WORTH`: from there it is used (`few_up_to`). Judged by the accuracy on validation images, a fifth
of the training labels of seeds that the study does not report; their test parts are not looked at. The linear probes'
block and penalties are chosen likewise, among `DRAWS` penalties: NAME-probes.csv. Trials go to NAME-search.csv, beside
this file, as they finish; stopped, the search goes on where it was. Delete both tables when the model or its
pretraining changes.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.errors import run
from quarterturn.core.files import atomic
from quarterturn.ingest.parallel import cores
from quarterturn.training.model_file import load_network, save_network
from studies.label_efficiency.arms.config import ROOT, Probe, Recipe, load_study
from studies.label_efficiency.arms.frozen import frozen_blocks
from studies.label_efficiency.arms.seed import ANGLES, Seed, single_threaded

SEEDS = [1000, 1001, 1002]
DRAWS = 12
RUNGS = [(DRAWS, 1), (4, 2), (2, 3)]  # how many recipes are compared, on how many seeds
STEPS = {"few": (300, 1600), "many": (1000, 4000)}
RATES, WEIGHT_DECAYS = (5e-4, 1e-2), (5e-3, 0.5)
AVERAGINGS, CROPS, COLORS, LAYER_DECAYS = (0.98, 0.99, 0.995), (0.35, 0.5, 0.65, 0.8), (0.0, 0.2, 0.4), (0.6, 0.8, 1.0)
BATCH = 32
WORTH = 0.0025  # accuracy for which a longer training is worth its time; less is an image or two, and chance
FACTOR = 1.6  # by which a winner near an edge is varied beyond it, and what counts as near
PENALTIES = [float(f"{value:.2g}") for value in np.logspace(-4, 1, DRAWS)]
ARMS = ["scratch", "fine_tuned"]
HERE = Path(__file__).resolve().parent
FIELDS = [*Recipe.model_fields]


def main() -> None:
    study = load_study(Path(sys.argv[1]))
    name = study.name
    path, probed_path = HERE / f"{name}-search.csv", HERE / f"{name}-probes.csv"
    trials = (
        pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["arm", "labels", "seed", *FIELDS, "accuracy"])
    )
    with ProcessPoolExecutor(cores(), initializer=single_threaded) as pool:

        def compare(arm: str, size: str, recipes: list[Recipe], seeds: list[int]) -> list[Recipe]:
            """The recipes, best first, after those that have not been tried on all of the seeds have been."""
            nonlocal trials
            missing = [
                (arm, size, recipe, seed)
                for seed, recipe in product(seeds, recipes)
                if accuracy_of(trials, arm, size, recipe, seed) is None
            ]
            if arm == "fine_tuned" and missing:
                list(pool.map(backbone, seeds))
            for trial, accuracy in zip(missing, pool.map(validated, missing), strict=True):
                row = {"arm": arm, "labels": size, "seed": trial[3], **trial[2].model_dump(), "accuracy": accuracy}
                trials = pd.DataFrame([*trials.to_dict("records"), row])
                with atomic(path) as temporary:
                    trials.to_csv(temporary, index=False, lineterminator="\n")
                print(row, flush=True)

            return sorted(recipes, key=lambda recipe: mean(arm, size, recipe, seeds), reverse=True)

        def mean(arm: str, size: str, recipe: Recipe, seeds: list[int] = SEEDS) -> float:
            return float(np.mean([accuracy_of(trials, arm, size, recipe, seed) for seed in seeds]))

        if not probed_path.exists():
            list(pool.map(backbone, SEEDS))
            with atomic(probed_path) as temporary:
                pd.concat(pool.map(probes, SEEDS)).to_csv(temporary, index=False, lineterminator="\n")
        print("probe: block {}, few {}, many {}".format(*best_probe(pd.read_csv(probed_path))), flush=True)
        winners: dict[tuple[str, str], Recipe] = {}
        for arm, size in product(reversed(ARMS), STEPS):  # those that need the backbones first, while they are there
            recipes = draws(arm, size)
            for count, seeds in RUNGS:
                recipes = compare(arm, size, recipes[:count], SEEDS[:seeds])
            best = recipes[0]
            finalists = list(recipes)
            while True:
                moved = beyond(best, size)
                finalists += moved
                better = compare(arm, size, [best, *moved], SEEDS)[0]
                if mean(arm, size, better) < mean(arm, size, best) + WORTH:
                    break
                best = better
            top = max(mean(arm, size, recipe) for recipe in finalists)
            good = [recipe for recipe in finalists if mean(arm, size, recipe) > top - WORTH]
            winners[arm, size] = min(good, key=lambda recipe: recipe.steps)
            print(f"{arm}, {size} labels: {winners[arm, size]!r}", flush=True)
        for arm in ARMS:
            few, many = (winners[arm, size] for size in STEPS)
            few_up_to = 0.0
            for fraction in study.fractions:
                size = size_of(fraction, study.primary)
                compare(arm, size, [few, many], SEEDS)
                if mean(arm, size, many) > mean(arm, size, few) + WORTH:
                    break
                few_up_to = fraction
            print(f"{arm}: few_up_to: {few_up_to:g}", flush=True)


def draws(arm: str, size: str) -> list[Recipe]:
    """`DRAWS` random recipes, the same whenever they are drawn."""
    random = np.random.default_rng([ARMS.index(arm), [*STEPS].index(size)])

    def between(low: float, high: float) -> float:
        return float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.2g}")

    return [
        Recipe(
            steps=int(between(*STEPS[size])),
            batch_size=BATCH,
            learning_rate=between(*RATES),
            weight_decay=between(*WEIGHT_DECAYS),
            averaging=float(random.choice(AVERAGINGS)),
            crop=float(random.choice(CROPS)),
            color=float(random.choice(COLORS)),
            layer_decay=float(random.choice(LAYER_DECAYS)) if arm == "fine_tuned" else 1.0,
        )
        for _ in range(DRAWS)
    ]


def beyond(best: Recipe, size: str) -> list[Recipe]:
    """The recipe with each of steps, learning rate and weight decay moved outwards, where it is near an edge."""
    recipes = []
    ranges = {"steps": STEPS[size], "learning_rate": RATES, "weight_decay": WEIGHT_DECAYS}
    for name, (low, high) in ranges.items():
        value = getattr(best, name)
        for near, moved in ((value < low * FACTOR, value / FACTOR), (value > high / FACTOR, value * FACTOR)):
            if near:
                changed = int(moved) if name == "steps" else float(f"{moved:.2g}")
                recipes.append(best.model_copy(update={name: changed}))
    return recipes


def size_of(fraction: float, primary: float) -> str:
    """What the trials' table calls it: few, many, or the fraction itself."""
    return {primary: "few", 1.0: "many"}.get(fraction, f"{fraction:g}")


def accuracy_of(trials: pd.DataFrame, arm: str, size: str, recipe: Recipe, seed: int) -> float | None:
    """What the trial gave, if there is one."""
    wanted = {"arm": arm, "labels": size, "seed": seed, **recipe.model_dump()}
    same = np.logical_and.reduce([trials[name] == value for name, value in wanted.items()])
    return float(trials.loc[same, "accuracy"].iloc[0]) if same.any() else None


def validated(trial: tuple[str, str, Recipe, int]) -> float:
    """Validation accuracy of one recipe at one seed, in a process of its own."""
    arm, size, recipe, number = trial
    seed = tuning(number)
    fraction = next(fraction for fraction in seed.study.fractions if size_of(fraction, seed.study.primary) == size)
    rows = seed.part.labelled(fraction)
    start = load_network(backbone(number))[0] if arm == "fine_tuned" else None
    network = seed.classifier(rows, recipe, start, f"{arm}, seed {number}")
    return round(float((seed.predictions(network) == seed.images.targets[seed.part.held_out]).mean()), 6)


def probes(number: int) -> pd.DataFrame:
    """Validation accuracy of every block's probe at one seed: `seed,block,labels,penalty,accuracy`."""
    seed = tuning(number)
    network, targets = load_network(backbone(number))[0], seed.images.targets[seed.part.held_out]
    study, rows = seed.study, []
    for penalty in PENALTIES:
        probe = Probe(block=1, few_up_to=0, few=penalty, many=penalty)
        tried = replace(seed, study=study.model_copy(update={"probe": probe, "fractions": [study.primary, 1.0]}))
        for cell in frozen_blocks(tried, network, "frozen"):
            if cell.arm != "frozen":
                block = int(cell.arm.rpartition("-")[2])
                size = "few" if cell.fraction == study.primary else "many"
                accuracy = round(float((cell.predicted == targets).mean()), 6)
                rows.append({"seed": number, "block": block, "labels": size, "penalty": penalty, "accuracy": accuracy})
    return pd.DataFrame(rows)


def best_probe(probed: pd.DataFrame) -> tuple[int, float, float]:
    """The block that is best on average over few and many labels, and its best penalty for each."""
    means = probed.groupby(["block", "labels", "penalty"])["accuracy"].mean().to_dict()

    def penalty(block: int, size: str) -> float:
        return max(PENALTIES, key=lambda penalty: means[block, size, penalty])

    def height(block: int) -> float:
        return float(sum(means[block, size, penalty(block, size)] for size in STEPS))

    block = max(sorted(set(probed["block"])), key=height)
    return block, penalty(block, "few"), penalty(block, "many")


@cache
def tuning(number: int) -> Seed:
    """The seed, with a fifth of its training labels held out in place of its test part."""
    seed = Seed.open(Path(sys.argv[1]), number)
    return replace(seed, part=seed.part.for_tuning())


def backbone(number: int) -> Path:
    """The file of the seed's rotation classifier, which all trials share, in build/ under what decides it."""
    seed = tuning(number)
    study = seed.study
    settings = f"{study.model!r}{study.pretrain!r}{study.data!r}"
    path = ROOT / "build/search" / f"{study.name}-{number}-{sha256(settings.encode()).hexdigest()[:16]}.safetensors"
    if not path.exists():
        names = [str(angle) for angle in ANGLES]
        save_network(seed.rotation(), "rotation", names, study.model, study.data.image_size, path)
    return path


if __name__ == "__main__":
    run(main, "search")
