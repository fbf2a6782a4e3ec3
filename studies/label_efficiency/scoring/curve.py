"""The study's plot: accuracy over the number of labels, and the number that pretraining saves."""

from pathlib import Path

from matplotlib.figure import Figure

from quarterturn.core.files import atomic
from studies.label_efficiency.scoring.results import FINE_TUNED, FROZEN, RANDOM, SCRATCH, key_of

LOOKS = {  # colour, marker and words
    SCRATCH: ("#636363", "o", "from scratch"),
    FINE_TUNED: ("#1b7837", "s", "rotation, then fine-tuned"),
    FROZEN: ("#8c6bb1", "^", "rotation, then frozen: a linear probe"),
    RANDOM: ("#bf812d", "v", "untrained and frozen: a linear probe"),
    "given": ("#2166ac", "D", "a given backbone, frozen: a linear probe"),
}


def draw_curve(values: dict[str, float], fractions: list[float], primary: float, title: str, path: Path) -> None:
    """Draw the arms with their 95 % intervals as a PNG.

    Args:
        values: flat metrics, as `summary` returns them.
        fractions: fractions of the labels.
        primary: fraction of the primary comparison.
        title: title of the plot.
        path: where to write the PNG.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for arm, (color, marker, words) in LOOKS.items():
        keys = [key for key in (key_of(arm, fraction) for fraction in fractions) if f"{key}_accuracy" in values]
        if keys:
            labels = [values[f"{key}_labels"] for key in keys]
            middle, low, high = ([values[f"{key}_accuracy{end}"] for key in keys] for end in ("", "_low", "_high"))
            axes.fill_between(labels, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(labels, middle, color=color, marker=marker, label=words)
    key = key_of(FINE_TUNED, primary)
    start, accuracy = values[f"{key}_labels"], values[f"{key}_accuracy"]
    end = start * values["labels_saved"]
    axes.annotate("", (end, accuracy), (start, accuracy), arrowprops={"arrowstyle": "<->", "color": "black"})
    axes.annotate(
        f"{saved_words(values)} as many labels",
        ((start * end) ** 0.5, accuracy),
        (0, 6),
        textcoords="offset points",
        ha="center",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )
    axes.set_xscale("log")
    ticks = [values[f"{key_of(SCRATCH, fraction)}_labels"] for fraction in fractions]
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labels (log scale)")
    axes.set_ylabel("test accuracy, mean of the seeds, 95 % interval")
    axes.set_title(title, loc="left")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def tested_words(seeds: int, images: int, folds: int) -> str:
    """Return the number of labelled images, and, if seeds fill whole rounds, that all are tested equally often."""
    return f"{images:,} labelled images" + ", each tested equally often" * (seeds % folds == 0)


def saved_words(values: dict[str, float]) -> str:
    """Return the primary result in words, such as "3.1× [2.4, 4.2]"."""
    more = {1: "more than ", 0: "", -1: "less than "}[int(values["labels_saved_censored"])]
    low, high = values["labels_saved_low"], values["labels_saved_high"]
    ends = "≤ " * bool(values["labels_saved_low_censored"]), "≥ " * bool(values["labels_saved_high_censored"])
    return f"{more}{values['labels_saved']:.1f}× [{ends[0]}{low:.1f}, {ends[1]}{high:.1f}]"
