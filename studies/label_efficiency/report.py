"""The tables of README.md, made of the results beside it: `python -m studies.label_efficiency.report`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from studies.label_efficiency.config import Recipe
from studies.label_efficiency.curve import saved_words
from studies.label_efficiency.results import FINE_TUNED, FROZEN, RANDOM, SCRATCH, key_of
from studies.label_efficiency.search import SWITCH
from studies.markdown import fill_tables

HERE = Path(__file__).resolve().parent
# Pictures, by name: the study's params, and its metrics.
STUDIES = {
    "silhouettes": (HERE / "params.yaml", HERE.parents[1] / "metrics/label_efficiency.json"),
    "photos": (HERE / "photos.yaml", HERE / "photos.json"),
}
Values = dict[str, float]


def main() -> None:
    write_report(HERE / "README.md")


def write_report(path: Path) -> None:
    """Put what there is of results and searches between their marks."""
    tables = {}
    for name, (params, metrics) in STUDIES.items():
        study = YAML(typ="safe", pure=True).load(params.read_text("utf-8"))
        if metrics.exists():
            tables[name] = results(name, study, json.loads(metrics.read_text("utf-8")))
        trials = HERE / f"{name}-search.csv"
        if trials.exists():
            tables[f"recipes for {name}"] = recipes(study, pd.read_csv(trials))
    fill_tables(path, tables)


def results(name: str, study: Mapping[str, Any], values: Values) -> list[str]:
    """The curve, the primary comparison, and three tables: accuracies, differences from scratch, and labels saved."""
    arms = sorted({key.rsplit("_", 2)[0] for key in values if key.endswith("_accuracy")}, key=_place)
    seeds, fractions = f"{values['seeds']:.0f} of {len(study['seeds'])} seeds", study["fractions"]
    first = f"{seeds}, {values['pictures']:,.0f} labelled pictures, each tested equally often."
    share = f"{100 * study['primary']:g} %"
    lines = [
        f"![accuracy over labels]({name}.png)",
        "",
        f"{first} Labels saved by fine-tuning with {share} of the labels: **{saved_words(values)}**",
        "",
    ]
    shares = [f"{100 * fraction:g} %: {values[f'{key_of(SCRATCH, fraction)}_labels']:,.0f}" for fraction in fractions]
    for title, cell, chosen in (
        ("accuracy", _accuracy, arms),
        ("points above scratch", _difference, [arm for arm in arms if "_block_" not in arm]),
        ("labels saved", _saved, [key_of(FINE_TUNED, 0).removesuffix("_0")]),
    ):
        lines += [f"| {title} | {' | '.join(shares)} |", "|---" * (len(shares) + 1) + "|"]
        for arm in chosen:
            cells = [cell(values, f"{arm}_{100 * fraction:g}") for fraction in fractions]
            if any(cells):
                lines.append(f"| {arm.replace('_', '-')} | {' | '.join(cells)} |")
        lines.append("")
    pair = f"{FROZEN}_minus_{RANDOM}"
    ends = [_difference(values, key_of(pair, fraction)) for fraction in fractions]
    return [*lines, f"Frozen minus random, in points: {', '.join(ends)}."]


def recipes(study: Mapping[str, Any], trials: pd.DataFrame) -> list[str]:
    """The winners, and how many trainings the search took for each."""
    fields = [*Recipe.model_fields]
    names = ["arm", "labels", *(name.replace("_", " ") for name in fields), "trainings", "validation accuracy"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for arm in ("scratch", "fine_tuned"):
        for size in ("few", "many"):
            tried = trials[(trials["arm"] == arm) & (trials["labels"] == size)]
            recipe = Recipe.model_validate(study[arm][size]).model_dump()
            won = tried[(tried[fields] == pd.Series(recipe)).all(axis=1)]
            cells = [arm.replace("_", "-"), size, *(f"{value:g}" for value in recipe.values()), str(len(tried))]
            found = f"{won['accuracy'].mean():.3f} on {len(won)} seeds" if len(won) else "a guess, not searched yet"
            lines.append(f"| {' | '.join(cells)} | {found} |")
    switch = trials[trials["labels"] == SWITCH]
    if len(switch):
        reached = []
        for size in ("few", "many"):
            wanted = pd.Series(Recipe.model_validate(study["scratch"][size]).model_dump())
            reached.append(switch[(switch[fields] == wanted).all(axis=1)].set_index("seed")["accuracy"])
        few, many = reached
        lines += [
            "",
            f"With {100 * study['few']:g} % of the labels, the most that recipes for few are used for, scratch reached"
            f" {few.mean():.3f} by its recipe for few and {many.mean():.3f} by that for many, on validation; the latter"
            f" minus the former, seed by seed: {', '.join(f'{100 * each:+.1f}' for each in many - few)} points.",
        ]
    return lines


def _place(arm: str) -> tuple[int, str]:
    order = [key_of(name, 0).removesuffix("_0") for name in (SCRATCH, FINE_TUNED, FROZEN, RANDOM)]
    return (order.index(arm) if arm in order else len(order), arm)


def _interval(values: Values, key: str, form: Callable[[float], str]) -> str:
    if key not in values:
        return ""
    return f"{form(values[key])} [{form(values[f'{key}_low'])}, {form(values[f'{key}_high'])}]"


def _accuracy(values: Values, key: str) -> str:
    return _interval(values, f"{key}_accuracy", lambda value: f"{value:.3f}")


def _difference(values: Values, key: str) -> str:
    return _interval(values, f"{key}_difference", lambda value: f"{100 * value:+.1f}")


def _saved(values: Values, key: str) -> str:
    prefix = f"{key}_labels_saved"
    if prefix not in values:
        return ""
    return saved_words(
        {name.removeprefix(f"{key}_"): value for name, value in values.items() if name.startswith(prefix)}
    )


if __name__ == "__main__":
    main()
