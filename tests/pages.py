"""Write what the pages take from the code and from results: `make pages`, before a commit that changes either.

These are two pages of docs/reference, the tables of the studies, benchmarks and docs/scale.md, and parts of other pages
that stand between the marks ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import benchmarks.report
import benchmarks.scale
import studies.advise.report
import studies.audit.report
import studies.label_efficiency.report
import studies.map.report
import studies.next.report
import studies.notebook.report
import studies.suspects.report
from quarterturn.app.upright import SURE
from quarterturn.core.params import load_params
from studies.label_efficiency.scoring.curve import saved_words
from studies.markdown import fill_tables, fraction_of, points_of
from studies.photos.run import LABELS_A_CLASS
from tests import reference
from tests.rooms import ROOT

UPRIGHT = ("photos", "pretrained")
DEFAULT_DATA = "data/silhouettes/silhouettes.zip"  # data.path of the default run
RUNS = {
    "silhouettes, fine-tuned": "metrics/evaluate.json",
    "photos, fine-tuned": "studies/photos/fine-tuned.json",
    "photos, frozen": "studies/photos/frozen.json",
}
CUES = ("whole", "frame_only", "thumbnail", "high_pass", "shuffled")  # of the audit, for the page on rotation


def main() -> None:
    reference.write("commands.md")
    for study in (
        studies.audit,
        studies.notebook,
        studies.label_efficiency,
        studies.suspects,
        studies.advise,
        studies.map,
        studies.next,
    ):
        study.report.main()
    benchmarks.report.main()
    benchmarks.scale.main()
    fill_tables(
        ROOT / "docs/how-to/upright.md",
        {"upright": upright({name: read(f"studies/upright/{name}.json") for name in UPRIGHT})},
    )
    fill_tables(ROOT / "docs/explanation/rotation.md", {"cues": cues(read("studies/audit/photos.json"))})
    if load_params(ROOT / "params.yaml").data.path == DEFAULT_DATA:
        reference.write("parameters.md")
        fill_tables(ROOT / "README.md", readme())
    else:
        print("params.yaml names other images: what pages show of the default run stays as it is")


def read(path: str) -> dict[str, Any]:
    """Return the metrics in a JSON file, whose path is relative to the project."""
    values: dict[str, Any] = json.loads((ROOT / path).read_text("utf-8"))
    return values


def readme() -> dict[str, list[str]]:
    """Return the parts of the README: the verdict of the default run, and the results."""
    verdict = (ROOT / "metrics/verdict.txt").read_text("utf-8").strip()
    runs = {name: read(path) for name, path in RUNS.items()}
    saved = labels_saved(read("studies/label_efficiency/photos.json"))
    few = [read(f"studies/photos/pretrained-{count}.json") for count in LABELS_A_CLASS]
    imagenet = from_imagenet(read("studies/photos/pretrained.json"), few)
    found = turned({name: read(f"studies/upright/{name}.json") for name in UPRIGHT})
    return {"verdict": [f"> {verdict}"], "results": [*results(runs), "", saved, "", f"{imagenet} {found}"]}


def results(runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table with a row for each run, from its evaluate.json."""
    return [
        "| images | rotation | transfer, half of the labels | baseline, all labels | difference, points | p |",
        "|---|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(_cells(metrics))} |" for name, metrics in runs.items()),
    ]


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    comparison = metrics["comparison"]
    points = [100 * comparison[key] for key in ("accuracy_difference", "low", "high")]
    return [
        f"{metrics['rotation']['accuracy']:.3f}",
        *(_with_labels(metrics[model]) for model in ("transfer", "baseline")),
        "{:+.1f} [{:+.1f}, {:+.1f}]".format(*points),
        f"{comparison['mcnemar_p']:.2g}",
    ]


def _with_labels(values: Mapping[str, Any]) -> str:
    return f"{fraction_of(values, 'accuracy')}, {values['labels']:,} labels"


def from_imagenet(whole: Mapping[str, Any], few: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence what the recommended classifier of the recipe `pretrained` reaches on photos.

    Args:
        whole: evaluate.json of a run with a test set.
        few: those of cross-validated runs.
    """
    by_labels = ", ".join(
        f"{fraction_of(run[run['recommended']], 'accuracy')} of {run['images']} labelled photos, by cross-validation"
        for run in few
    )
    best = whole[whole["recommended"]]
    return (
        "Starting from ImageNet's features instead (`quarterturn recipe pretrained`), a linear head classifies"
        f" {by_labels}, and with {best['labels']:,} labels {fraction_of(best, 'accuracy')} of"
        f" {whole['images']} test photos correctly."
    )


def labels_saved(values: Mapping[str, float]) -> str:
    """Return what the label-efficiency study found on photos at 10 % of the labels, and with all of them."""
    few, scratch = (values[f"{arm}_10_accuracy"] for arm in ("fine_tuned", "scratch"))
    return (
        f"On photos with {values['fine_tuned_10_labels']:.0f} labels, 10 % of all, fine-tuning reaches an accuracy of"
        f" {few:.3f} and training from scratch {scratch:.3f}: {points_of(values, 'fine_tuned_10_difference')} points."
        f" Training from scratch needs **{saved_words(dict(values))} as many labels** for the same accuracy. With all"
        f" {values['fine_tuned_100_labels']:,.0f} labels the difference is"
        f" {points_of(values, 'fine_tuned_100_difference')} points."
    )


def upright(by_recipe: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of recall and precision of `quarterturn upright`, with a row for each recipe and threshold."""
    rows = [
        f"| {recipe} | {sure} | {values['recall']:.2f} | {values['precision']:.2f} | {values['right_angle']:.2f} |"
        for recipe, figures in by_recipe.items()
        for sure, values in figures["sure"].items()
    ]
    figures = next(iter(by_recipe.values()))
    first = (
        f"{figures['pictures']:,} test images, weighted as in a folder of which {100 * figures['share_turned']:g} %"
        " of the images are rotated:"
    )
    return [first, "", "| recipe | `--sure` | recall | precision | angle |", "|---|---|---|---|---|", *rows]


def turned(by_recipe: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in a sentence how well `quarterturn upright` does at its default threshold."""
    of = {recipe: figures["sure"][f"{SURE:g}"] for recipe, figures in by_recipe.items()}
    figures, best = next(iter(by_recipe.values())), of["pretrained"]
    return (
        f"Of {figures['pictures']:,} photos of which {100 * figures['share_turned']:g} % are turned,"
        f" `quarterturn upright` lists {best['recall']:.2f} of the turned ones, and"
        f" {best['precision']:.2f} of what it lists is turned, when"
        f" rotation is learnt on top of ImageNet; {of['photos']['recall']:.2f} and {of['photos']['precision']:.2f} when"
        " it is learnt from random weights."
    )


def cues(figures: Mapping[str, Any]) -> list[str]:
    """Return how well the angle is predicted from parts of an image."""
    words = studies.audit.report.WORDS
    rows = [f"| {words[name][0]} | {fraction_of(figures, f'{name}.rotation')} |" for name in CUES]
    return ["| what the network sees | accuracy of the angle |", "|---|---|", *rows]


if __name__ == "__main__":
    main()
