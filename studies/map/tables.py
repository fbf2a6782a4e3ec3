"""Tables and sentences of the map's pages, as Markdown."""

from collections.abc import Iterable

import pandas as pd

from studies.label_efficiency.scoring.curve import saved_words
from studies.label_efficiency.scoring.labels_saved import Difference, LabelsSaved
from studies.map.comparisons import ALL, ARMS, PAIRS, Key, count, keys
from studies.map.search import TRIED, best, name_of, rotations
from studies.markdown import markdown_table, points

STARTS = {  # arm → what the table of starts calls it
    "scratch": "scratch",
    "rotation fine-tuned": "rotation",
    "imagenet frozen": "frozen",
    "imagenet fine-tuned": "fine-tuned",
}
WHOLE_POOL = "rotation fine-tuned"  # which learns rotations on all training images


def verdict(found: dict[str, dict[Key, Difference]]) -> str:
    """Return in a sentence where rotation is shown to pay, and where not."""
    alone, frozen, tuned, more = (
        _means(found[question])
        for question in (
            "rotation",
            "ImageNet or rotation",
            "ImageNet, fine-tuned, or rotation",
            "fine-tuning after ImageNet",
        )
    )
    if not alone:
        return "Nothing is shown yet: intervals need two seeds or more."
    return (
        f"Averaged over label counts, learning rotations first, from random weights, is shown to pay on"
        f" {_sets(alone, 1)} of {len(alone)} sets of images, and not on {_sets(alone, 0)}; it is shown to harm on"
        f" {_sets(alone, -1)}. A network trained on ImageNet is shown to be better than rotation on {_sets(frozen, 1)}"
        f" if its features stay frozen, and worse on {_sets(frozen, -1)}; if it is fine-tuned, better on"
        f" {_sets(tuned, 1)}, and worse on {_sets(tuned, -1)}. Fine-tuned it is shown to be better than frozen on"
        f" {_sets(more, 1)}, and worse on {_sets(more, -1)}."
    )


def _means(found: dict[Key, Difference]) -> dict[str, Difference]:
    """Return the differences of the means over label counts, by set."""
    return {key.set: each for key, each in found.items() if key.budget == ALL}


def _sets(found: dict[str, Difference], sign: int) -> str:
    """Return in words on how many sets a difference of this sign is shown, or none if it is 0, and on which."""
    shown = [name for name, each in found.items() if (each.low > 0) - (each.high < 0) == sign]
    return f"{len(shown)} ({', '.join(shown)})" if shown else "none"


def table_of_starts(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return a table, sets by labels a class, of the starts that are there and not shown to be worse than another."""
    pairs = [(PAIRS[question], of) for question, of in found.items() if set(PAIRS[question]) <= set(STARTS)]
    places = keys(of for _, of in pairs)
    budgets = sorted({key.budget for key in places})
    rows = []
    for name in dict.fromkeys(key.set for key in places):
        cells = []
        for key in (Key(name, budget) for budget in budgets):
            shown = {arms: of[key] for arms, of in pairs if key in of}
            there = {arm for arms in shown for arm in arms}
            worse = {second for (_, second), each in shown.items() if each.low > 0}
            worse |= {first for (first, _), each in shown.items() if each.high < 0}
            left = [start for arm, start in STARTS.items() if arm in there - worse]
            cells.append(("any" if worse.isdisjoint(there) else ", ".join(left)) if there else "")
        rows.append([name, *cells])
    return markdown_table(["images", *map(count, budgets)], rows)


def table_of_means(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return a table with a row for each set and a column for each question, of means over label counts."""
    means = {question: _means(of) for question, of in found.items()}
    names = sorted({name for of in means.values() for name in of})
    return markdown_table(
        ["images", *_heads(found)], ([name, *(_points(of.get(name)) for of in means.values())] for name in names)
    )


def table_of_differences(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return a table with a row for each set and number of labels, and a column for each question."""
    places = [key for key in keys(found.values()) if key.budget != ALL]
    rows = ([*key, *(_points(of.get(key)) for of in found.values())] for key in places)
    return markdown_table(["images", "labels a class", *_heads(found)], rows)


def _heads(questions: Iterable[str]) -> list[str]:
    """Return what questions compare, in words."""
    return [" minus ".join(ARMS[arm][0] for arm in PAIRS[question]) for question in questions]


def after_imagenet(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return what learning rotations after ImageNet is worth: sentences, and a table, sets by labels a class."""
    questions = {"frozen": "rotation after ImageNet", "fine-tuned": "rotation after ImageNet, fine-tuned"}
    of = {words: found[question] for words, question in questions.items() if found[question]}
    if not of:
        return ["Nothing is shown yet."]
    budgets = sorted({key.budget for each in of.values() for key in each})
    rows = [
        [name, words, *(_points(each.get(Key(name, budget))) for budget in budgets)]
        for name in dict.fromkeys(key.set for key in keys(of.values()))
        for words, each in of.items()
    ]
    said = [
        f"Averaged over label counts, the {words} network is shown to be better after rotation on {_sets(means, 1)} of"
        f" {len(means)} sets, and worse on {_sets(means, -1)}."
        for words, means in ((words, _means(each)) for words, each in of.items())
    ]
    return [" ".join(said), "", *markdown_table(["images", "network", *map(count, budgets)], rows)]


def table_of_pools(pools: dict[int, dict[Key, Difference]], results: pd.DataFrame) -> list[str]:
    """Return a sentence and a table of what more images are worth to learn rotations on, with as many steps."""
    means = results.groupby(["set", "budget", "arm"])["accuracy"].mean()
    shown = [
        (key, size, of[key])
        for key in keys(pools.values())
        for size, of in pools.items()
        if key in of and key.budget != ALL
    ]
    rows = []
    for key, size, each in shown:
        accuracies = (f"{means[*key, arm]:.3f}" for arm in (f"{WHOLE_POOL}, pool of {size}", WHOLE_POOL))
        rows.append([*key, f"{size:,}", *accuracies, _points(each)])
    better, worse = sum(each.low > 0 for *_, each in shown), sum(each.high < 0 for *_, each in shown)
    said = f"All training images are shown to be better in {better} of {len(shown)} comparisons, and worse in {worse}."
    heads = ["images", "labels a class", "rotations learnt on", "accuracy", "with all training images"]
    return [said, "", *markdown_table([*heads, "difference, points"], rows)]


def table_of_savings(saved: dict[str, dict[Key, LabelsSaved]]) -> list[str]:
    """Return a table of the labels that arms save."""
    rows = (
        [*key, *(saved_words(of[key].metrics()) if key in of else "" for of in saved.values())]
        for key in keys(saved.values())
    )
    return markdown_table(["images", "labels a class", *(ARMS[arm][0] for arm in saved)], rows)


def table_of_accuracies(results: pd.DataFrame) -> list[str]:
    """Return a table of mean accuracies over the seeds."""
    means = results.groupby(["set", "budget", "arm"], sort=False)["accuracy"].mean()
    places = results[["set", "budget"]].drop_duplicates().sort_values(["set", "budget"])
    rows = (
        [*place, *(f"{means[*place, arm]:.3f}" if (*place, arm) in means.index else "" for arm in ARMS)]
        for place in places.itertuples(index=False)
    )
    return markdown_table(["images", "labels a class", *(words for words, _, _ in ARMS.values())], rows)


def seeds_of(results: pd.DataFrame) -> str:
    """Return in a sentence how many seeds there are of each arm."""
    counts = results.groupby(["arm", "set"])["seed"].nunique().groupby("arm").agg(["min", "max"])
    said = [
        f"{ARMS[arm][0]} {low}" if low == high else f"{ARMS[arm][0]} {low} to {high}"
        for arm, (low, high) in zip(counts.index, counts.to_numpy(), strict=True)
        if arm in ARMS
    ]
    return f"Seeds of each arm: {', '.join(said)}."


def cost(seconds: pd.DataFrame) -> str:
    """Return in a sentence how much CPU time the results took."""
    return f"The results took {seconds['seconds'].sum() / 3600:.1f} CPU-hours."


def table_of_recipes(search: pd.DataFrame) -> list[str]:
    """Return a table of the recipes that won, and of how many were tried."""
    means = search.groupby(["arm", "budget"])["accuracy"].mean()
    tried, rows = dict(TRIED.values()), []
    for arm, chosen in best(search).items():
        for budget, recipe in chosen.items():
            of = {each: means[name_of(arm, each), budget] for each in tried[arm]}
            accuracies = [f"{of[recipe]:.3f}", f"{max(of.values()):.3f}"]
            rows.append([ARMS[arm][0], budget, recipe.steps, f"{recipe.learning_rate:g}", len(of), *accuracies])
    heads = ["arm", "labels a class", "steps", "learning rate", "tried", "mean validation accuracy", "of the best"]
    return markdown_table(heads, rows)


def table_of_rotations(search: pd.DataFrame) -> list[str]:
    """Return a table of the recipes that were tried for ImageNet's network to learn rotations by, the best first."""
    ranked = sorted(rotations(search).items(), key=lambda item: -item[1])
    return markdown_table(
        ["steps", "learning rate", "groups frozen", "batch normalisation", "mean validation accuracy"],
        (
            [each.steps, f"{each.learning_rate:g}", each.frozen, each.batch_norm, f"{accuracy:.3f}"]
            for each, accuracy in ranked
        ),
    )


def _points(each: Difference | None) -> str:
    return points(each.difference, each.low, each.high, marked=True) if each else ""
