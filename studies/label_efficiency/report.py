"""Write the tables of README.md from the results beside it: `python -m studies.label_efficiency.report`."""

import json

import pandas as pd

from studies.label_efficiency.arms.config import HERE, Recipe, Study, load_study
from studies.label_efficiency.scoring.coverage import PATH
from studies.label_efficiency.scoring.curve import saved_words, tested_words
from studies.label_efficiency.scoring.results import FINE_TUNED, FROZEN, PAIRS, RANDOM, SCRATCH, key_of
from studies.label_efficiency.scoring.score import metrics_of
from studies.label_efficiency.search import FIELDS, SEEDS, STEPS, WORTH, size_of
from studies.markdown import fill_tables, fraction_of, header, markdown_table, points_of

STUDIES = ("silhouettes", "photos")
HEADS = [name.replace("_", " ") for name in FIELDS]  # of the values of a recipe
Values = dict[str, float]


def main() -> None:
    """Fill the tables of results and of searches, as far as there are any."""
    tables = {"coverage": coverage(pd.read_csv(PATH))}
    for name in STUDIES:
        study = load_study(HERE / f"{name}.yaml")
        tables[name] = results(name, study, json.loads(metrics_of(name).read_text("utf-8")))
        trials = HERE / f"{name}-search.csv"
        if trials.exists():
            tried = pd.read_csv(trials)
            tables[f"recipes for {name}"] = [*recipes(study, tried), "", *switches(study, tried)]
            between = finalists(study, tried)
            tables[f"recipes for {name}"] += ["", *between] if between else []
    fill_tables(HERE / "README.md", tables)


def results(name: str, study: Study, values: Values) -> list[str]:
    """Return the curve, the primary comparison, and tables of accuracies, differences and labels saved."""
    arms = sorted({key.rsplit("_", 2)[0] for key in values if key.endswith("_accuracy")}, key=_place)
    seeds, fractions = f"{values['seeds']:.0f} of {len(study.seeds)} seeds", study.fractions
    first = f"{seeds}, {tested_words(int(values['seeds']), int(values['pictures']), study.folds)}."
    share = f"{100 * study.primary:g} %"
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
        lines += header([title, *shares])
        for arm in chosen:
            cells = [cell(values, f"{arm}_{100 * fraction:g}") for fraction in fractions]
            if any(cells):
                lines.append(f"| {arm.replace('_', '-')} | {' | '.join(cells)} |")
        lines.append("")
    lines += header(["points; p is Holm's", *shares])
    for first, second in PAIRS:
        ends = [_adjusted(values, key_of(f"{first}_minus_{second}", fraction)) for fraction in fractions]
        lines.append(f"| {first} minus {second} | {' | '.join(ends)} |")
    return lines


def coverage(table: pd.DataFrame) -> list[str]:
    """Return a table of how often simulated intervals cover the truth, by world and number of seeds."""
    quantities = list(dict.fromkeys(table["quantity"]))
    lines = header(["simulated study", "seeds", *quantities])
    for (world, seeds), of in table.groupby(["world", "seeds"], sort=False):
        cells = [_shares(each) for _, each in of.set_index("quantity").loc[quantities].iterrows()]
        lines.append(f"| {world} | {seeds} | {' | '.join(cells)} |")
    return lines


def _shares(each: "pd.Series[float]") -> str:
    """Return the coverage of the study's interval and, where there are any, of the others beside it."""
    if pd.isna(each["as_independent"]):
        return f"{each['study']:.3f} ({each['open']:.2f} open)"
    return f"{each['study']:.3f} ({each['as_independent']:.3f}, {each['corrected']:.3f})"


def recipes(study: Study, trials: pd.DataFrame) -> list[str]:
    """Return a table of the winners and of how many trainings the search took; those of `switches` do not count."""
    names = ["arm", "labels", *HEADS, "trainings", "validation accuracy"]
    lines = header(names)
    for arm, of in study.arms.items():
        for size, recipe in of.searched.items():
            won = _accuracies(recipe, trials, arm, size)
            others = [of.searched[other] for other in STEPS if other != size]
            compared = sum(len(_accuracies(other, trials, arm, size)) for other in others)
            count = str(len(trials[(trials["arm"] == arm) & (trials["labels"] == size)]) - compared)
            cells = [arm.replace("_", "-"), size, *_values(recipe), count]
            found = f"{won.mean():.3f} on {len(won)} seeds" if len(won) else "a guess, not searched yet"
            lines.append(f"| {' | '.join(cells)} | {found} |")
    return lines


def switches(study: Study, trials: pd.DataFrame) -> list[str]:
    """Return a table that compares an arm's recipes for few and for many labels on the same seeds."""
    names = ["arm", "labels", "by the recipe for few", "by that for many", "its gain in points, seed by seed", "taken"]
    rows: list[str] = []
    notes: list[str] = []
    for arm, of in study.arms.items():
        name, of_arm, late = arm.replace("_", "-"), [], []
        for fraction in study.fractions:
            labels = size_of(fraction, study.primary)
            few, many = (_accuracies(of.searched[size], trials, arm, labels) for size in STEPS)
            gains = (many - few).dropna()
            if len(gains):
                taken = "few" if fraction <= of.few_up_to else "many"
                taken = "its own" if f"{fraction:g}" in of.between else taken
                means, points = f"{few.mean():.3f} | {many.mean():.3f}", ", ".join(f"{100 * g:+.1f}" for g in gains)
                of_arm.append(f"| {name} | {100 * fraction:g} % | {means} | {points} | {taken} |")
                if taken == "few" and gains.mean() > WORTH:
                    late.append(f"{100 * fraction:g} %")
        rows += of_arm
        if not of_arm:
            share = f"{100 * of.few_up_to:g} %"
            notes.append(f"{name} uses the recipe for few labels up to {share}, which was set by hand.")
        if late:
            notes.append(f"Not followed yet: at {' and '.join(late)}, {name} is probably better than shown here.")
    table = [*header(names), *rows, ""] if rows else []
    return [*table, " ".join(notes)]


def finalists(study: Study, trials: pd.DataFrame) -> list[str]:
    """Return a table of the recipes of scratch that the searches between few and many labels tried on all seeds."""
    rows = []
    for fraction in study.fractions:
        size, taken = size_of(fraction, study.primary), study.scratch.recipe(fraction)
        of_size = trials[(trials["arm"] == "scratch") & (trials["labels"] == size)]
        means = of_size.groupby(FIELDS, as_index=False)["accuracy"].agg(["mean", "count"])
        if size in STEPS or len(means) <= len(STEPS):  # only recipes for few and for many were compared
            continue
        for each in means[means["count"] == len(SEEDS)].sort_values("mean", ascending=False).to_dict("records"):
            recipe = Recipe.model_validate({str(field): each[field] for field in FIELDS})
            used = "taken" if recipe == taken else ""
            rows.append([f"{100 * fraction:g} %", *_values(recipe), f"{each['mean']:.3f}", len(of_size), used])
    heads = ["labels", *HEADS, "validation accuracy", "trainings of all", ""]
    return markdown_table(heads, rows) if rows else []


def _values(recipe: Recipe) -> list[str]:
    return [f"{value:g}" for value in recipe.model_dump().values()]


def _accuracies(recipe: Recipe, trials: pd.DataFrame, arm: str, labels: str) -> "pd.Series[float]":
    """Return the accuracies of an arm's recipe at a number of labels, by seed."""
    wanted = pd.Series({"arm": arm, "labels": labels, **recipe.model_dump()})
    return trials[(trials[[*wanted.index]] == wanted).all(axis=1)].set_index("seed")["accuracy"]


def _place(arm: str) -> tuple[int, str]:
    order = [key_of(name, 0).removesuffix("_0") for name in (SCRATCH, FINE_TUNED, FROZEN, RANDOM)]
    return (order.index(arm) if arm in order else len(order), arm)


def _accuracy(values: Values, key: str) -> str:
    return fraction_of(values, f"{key}_accuracy") if f"{key}_accuracy" in values else ""


def _difference(values: Values, key: str) -> str:
    return points_of(values, f"{key}_difference") if f"{key}_difference" in values else ""


def _adjusted(values: Values, key: str) -> str:
    """Return a difference in points with its p value, adjusted for the number of comparisons."""
    return f"{_difference(values, key)}, p = {values[f'{key}_p_holm']:.2g}" if f"{key}_p_holm" in values else ""


def _saved(values: Values, key: str) -> str:
    prefix = f"{key}_labels_saved"
    if prefix not in values:
        return ""
    return saved_words(
        {name.removeprefix(f"{key}_"): value for name, value in values.items() if name.startswith(prefix)}
    )


if __name__ == "__main__":
    main()
