"""Choose the recipes for the images of `make study`: `python -m studies.label_efficiency.search [--data DATA]`.

Every arm gets the same budget, at few labels (the primary fraction) and at many (all): `TRAININGS` trainings of recipes
that Optuna's TPE sampler proposes. Scratch, on which the labels saved depend most, gets half as many more at each
fraction between, beginning with the recipe that it has there. `--sizes` are few, many or such fractions; without, all
are searched.

A recipe is trained on one tuning seed after the other, and given up by successive halving on its mean accuracy (Li et
al., MLSys 2020). Of the recipes that reach all seeds, and are within `WORTH` of the best, the shortest training wins.
At last, the winners of an arm for few and for many are compared, from the smallest fraction on, until that for many is
better by `WORTH`: from there it is used (`few_up_to`). Accuracies are those on validation images, a fifth of the
training labels of seeds that the study does not report; their test parts are not looked at. The linear probes' block
and penalties are chosen likewise, among `PENALTIES`: NAME-probes.csv.

Trainings go to NAME-search.csv, beside this file, as they finish. A search that was stopped proposes the same recipes
again and takes from the table what is there, so it ends as if it had not been stopped. Each search is sequential; the
number of cores decides only how many searches run at once. Delete both tables when the model or its pretraining
changes.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from quarterturn.core.errors import run
from quarterturn.core.files import atomic
from quarterturn.core.side_by_side import cores
from quarterturn.training.model_file import load_network, save_network
from quarterturn.training.network import Network
from studies.clone import ROOT
from studies.label_efficiency.arms.config import HERE, Probe, Recipe, Study, add_options, study_of
from studies.label_efficiency.arms.frozen import frozen_blocks
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.arms.seed import ANGLES, Seed, single_threaded
from studies.runs import digest

if TYPE_CHECKING:
    from optuna.trial import BaseTrial, Trial

SEEDS = [1000, 1001, 1002]
TRAININGS = 40  # of each arm at few labels, and as many at many
TRAININGS_BETWEEN = 20  # of scratch at each fraction between, where it begins with a recipe that is known to work
STEPS = {"few": (200, 10_000), "many": (500, 20_000)}
STEPS_BETWEEN = (500, 10_000)
BATCH = 32
WORTH = 0.0025  # accuracy for which a longer training is worth its time; less is an image or two, and chance
PENALTIES = [float(f"{value:.2g}") for value in np.logspace(-4, 1, 12)]
ARMS = ["scratch", "fine_tuned"]
FIELDS = [*Recipe.model_fields]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--sizes", nargs="+", default=[], help="few, many, or fractions between (default: all)")
    options = parser.parse_args()
    study = study_of(options)
    tuner, spawn = Tuner(study, Images(study.data)), multiprocessing.get_context("spawn")
    probed_path = HERE / f"{study.name}-probes.csv"
    with ThreadPoolExecutor() as threads, ProcessPoolExecutor(cores(), spawn, single_threaded) as pool:
        if not probed_path.exists():
            with atomic(probed_path) as temporary:
                pd.concat(pool.map(tuner.probes, SEEDS)).to_csv(temporary, index=False, lineterminator="\n")
        print("probe: block {}, few {}, many {}".format(*best_probe(pd.read_csv(probed_path))), flush=True)
        trials = Trials(HERE / f"{study.name}-search.csv", tuner, pool)
        searched = [each for each in searches_of(study) if not options.sizes or each[1] in options.sizes]
        searches = {threads.submit(search, *each, trials.accuracy, start_of(study, *each)): each for each in searched}
        winners = {}
        for found in as_completed(searches):  # an error in one ends all
            winners[searches[found]] = found.result()
            print("{}, {} labels: {!r}".format(*searches[found], found.result()), flush=True)
        for arm in [arm for arm in ARMS if {(arm, size) for size in STEPS} <= {*winners}]:
            few_up_to = 0.0
            for fraction in study.fractions:
                tried = partial(trials.accuracy, arm, size_of(fraction, study.primary))
                few, many = (fmean(threads.map(partial(tried, winners[arm, size]), SEEDS)) for size in STEPS)
                if many > few + WORTH:
                    break
                few_up_to = fraction
            print(f"{arm}: few_up_to: {few_up_to:g}", flush=True)


@dataclass(frozen=True)
class Tuner:
    """Train at the seeds of the search, each in a process of its own, and test on validation images."""

    study: Study
    images: Images

    def accuracy(self, arm: str, labels: str, recipe: Recipe, number: int) -> float:
        """Train at one seed and return the accuracy on validation images."""
        seed = self._seed(number)
        fraction = next(each for each in self.study.fractions if size_of(each, self.study.primary) == labels)
        start = self._backbone(seed) if arm == "fine_tuned" else None
        network = seed.classifier(seed.part.labelled(fraction), recipe, start, f"{arm}, seed {number}")
        return round(float((seed.predictions(network) == self.images.targets[seed.part.held_out]).mean()), 6)

    def probes(self, number: int) -> pd.DataFrame:
        """Return the validation accuracy of every block's probe at one seed: `seed,block,labels,penalty,accuracy`."""
        seed = self._seed(number)
        network, targets = self._backbone(seed), self.images.targets[seed.part.held_out]
        study, rows = self.study, []
        for penalty in PENALTIES:
            probe = Probe(block=1, few_up_to=0, few=penalty, many=penalty)
            tried = replace(seed, study=study.model_copy(update={"probe": probe, "fractions": [study.primary, 1.0]}))
            for cell in frozen_blocks(tried, network, "frozen"):
                if cell.arm != "frozen":
                    block = int(cell.arm.rpartition("-")[2])
                    size = "few" if cell.fraction == study.primary else "many"
                    accuracy = round(float((cell.predicted == targets).mean()), 6)
                    row = {"seed": number, "block": block, "labels": size, "penalty": penalty, "accuracy": accuracy}
                    rows.append(row)
        return pd.DataFrame(rows)

    def _seed(self, number: int) -> Seed:
        """Return a seed with a fifth of its training labels held out in place of its test part."""
        seed = Seed.of(self.study, self.images, number)
        return replace(seed, part=seed.part.for_tuning())

    def _backbone(self, seed: Seed) -> Network:
        """Return the seed's rotation classifier, which all trainings share, kept in build/ under its settings."""
        study = self.study
        settings = digest([study.model, study.pretrain, study.data])
        path = ROOT / "build/search" / f"{study.name}-{seed.number}-{settings}.safetensors"
        if not path.exists():
            names = [str(angle) for angle in ANGLES]
            save_network(seed.rotation(), "rotation", names, study.model, study.data.image_size, path)
        return load_network(path)[0]


class Trials:
    """Keep the validation accuracy of every training in a file, and train what the file lacks in other processes."""

    KEY = ("arm", "labels", "seed", *FIELDS)

    def __init__(self, path: Path, tuner: Tuner, pool: Executor) -> None:
        self.path, self.tuner, self.pool, self.lock = path, tuner, pool, Lock()
        table = pd.read_csv(path, float_precision="round_trip") if path.exists() else None
        self.accuracies: dict[Any, float] = {} if table is None else table.set_index([*self.KEY])["accuracy"].to_dict()

    def accuracy(self, arm: str, labels: str, recipe: Recipe, seed: int) -> float:
        """Return the accuracy of an arm's recipe at a number of labels: few, many or a fraction."""
        key = (arm, labels, seed, *recipe.model_dump().values())
        if key not in self.accuracies:
            accuracy = self.pool.submit(self.tuner.accuracy, arm, labels, recipe, seed).result()
            with self.lock:
                self.accuracies[key] = accuracy
                rows = pd.DataFrame([(*key, value) for key, value in self.accuracies.items()])
                with atomic(self.path) as temporary:
                    rows.to_csv(temporary, index=False, header=[*self.KEY, "accuracy"], lineterminator="\n")
                print(*key, accuracy, flush=True)
        return float(self.accuracies[key])


def searches_of(study: Study) -> list[tuple[str, str]]:
    """Return the arm and the number of labels of every search."""
    between = [f"{fraction:g}" for fraction in study.fractions if study.primary < fraction < 1]
    return [*(("scratch", size) for size in between), *product(ARMS, STEPS)]


def start_of(study: Study, arm: str, size: str) -> Recipe | None:
    """Return the recipe that a search begins with: at a fraction between few and many, that of the params."""
    return None if size in STEPS else study.arms[arm].recipe(float(size))


def search(
    arm: str, size: str, accuracy_of: Callable[[str, str, Recipe, int], float], start: Recipe | None = None
) -> Recipe:
    """Return the best recipe of an arm at a number of labels; the same whenever the accuracies are the same.

    Args:
        arm: one of `ARMS`.
        size: few, many, or a fraction of the labels.
        accuracy_of: trains by arm, size, recipe and seed.
        start: recipe that is proposed first, rounded as all proposals are; None: the sampler's.
    """
    import optuna  # here, because who reads the tables does not need it

    def objective(trial: "Trial") -> float:
        recipe, accuracies = recipe_of(trial, arm, size), list[float]()
        for seed in SEEDS:
            accuracies.append(accuracy_of(arm, size, recipe, seed))
            trial.report(fmean(accuracies), step=len(accuracies))
            spent = sum(len(each.intermediate_values) for each in trial.study.trials)
            if spent == budget:
                trial.study.stop()
            if len(accuracies) < len(SEEDS) and (spent == budget or trial.should_prune()):
                raise optuna.TrialPruned
        return fmean(accuracies)

    budget = TRAININGS if size in STEPS else TRAININGS_BETWEEN
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    if start is not None:
        known = start.model_dump(include={"steps", "learning_rate", "weight_decay", "crop", "color", "layer_decay"})
        study.enqueue_trial(known | {"1 - averaging": 1 - start.averaging})
    study.optimize(objective)
    finalists = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    good = [each for each in finalists if (each.value or 0) > study.best_value - WORTH]
    return min((recipe_of(each, arm, size) for each in good), key=lambda recipe: recipe.steps)


def recipe_of(trial: "BaseTrial", arm: str, size: str) -> Recipe:
    """Return the recipe that a trial proposes; the ranges contain, with room to spare, what is known to work."""

    def between(name: str, low: float, high: float) -> float:
        return float(f"{trial.suggest_float(name, low, high, log=True):.2g}")

    return Recipe(
        steps=int(between("steps", *STEPS.get(size, STEPS_BETWEEN))),
        batch_size=BATCH,
        learning_rate=between("learning_rate", 1e-4, 3e-2),
        weight_decay=between("weight_decay", 1e-4, 1.0),
        averaging=round(1 - between("1 - averaging", 1e-3, 0.1), 4),
        crop=between("crop", 0.2, 1.0),
        color=round(trial.suggest_float("color", 0.0, 0.8), 2),
        layer_decay=between("layer_decay", 0.3, 1.0) if arm == "fine_tuned" else 1.0,
    )


def size_of(fraction: float, primary: float) -> str:
    """Return what the table of trials calls a fraction: few, many, or the fraction itself."""
    return {primary: "few", 1.0: "many"}.get(fraction, f"{fraction:g}")


def best_probe(probed: pd.DataFrame) -> tuple[int, float, float]:
    """Return the block that is best on average over few and many labels, and its best penalty for each."""
    means = probed.groupby(["block", "labels", "penalty"])["accuracy"].mean().to_dict()

    def penalty(block: int, size: str) -> float:
        return max(PENALTIES, key=lambda penalty: means[block, size, penalty])

    def height(block: int) -> float:
        return float(sum(means[block, size, penalty(block, size)] for size in STEPS))

    block = max(sorted(set(probed["block"])), key=height)
    return block, penalty(block, "few"), penalty(block, "many")


if __name__ == "__main__":
    run(main, "search")
