"""Write the map's pages, figures and picture from its results: `python -m studies.map.report`."""

from pathlib import Path

import pandas as pd

from quarterturn.core.files import write_json
from studies.clone import ROOT
from studies.label_efficiency.scoring.labels_saved import Difference, LabelsSaved
from studies.map import tables
from studies.map.arms import POOLS
from studies.map.comparisons import PAIRS, Key, cells_of, count, differences, saved_by
from studies.map.picture import draw
from studies.map.tables import WHOLE_POOL
from studies.markdown import fill_tables

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/explanation/pretraining.md"
SAVING = ("rotation fine-tuned", "imagenet frozen")  # arms whose labels saved are shown


def main() -> None:
    results = pd.read_csv(HERE / "results.csv", dtype={"right": str})
    folds, search = (pd.read_csv(HERE / f"{name}.csv") for name in ("folds", "search"))
    cells = {name: cells_of(results, folds, name) for name in folds["set"].unique()}
    found = {question: differences(cells, *arms) for question, arms in PAIRS.items()}
    answered = {question: of for question, of in found.items() if of}
    saved = {arm: dict(saved_by(cells, arm)) for arm in SAVING}
    pools = {size: differences(cells, WHOLE_POOL, f"{WHOLE_POOL}, pool of {size}") for size in POOLS}
    of_both = {  # pages
        "verdict": [tables.verdict(found)],
        "starts": tables.table_of_starts(found),
        "pools": tables.table_of_pools(pools, results),
    }
    own = {
        "seeds": [tables.seeds_of(results)],
        "means": tables.table_of_means(answered),
        "differences": tables.table_of_differences(answered),
        "labels saved": tables.table_of_savings(saved),
        "accuracies": tables.table_of_accuracies(results),
        "cost": [tables.cost(pd.read_csv(HERE / "results-seconds.csv"))],
        "recipes": tables.table_of_recipes(search),
        "rotations": tables.table_of_rotations(search),
    }
    fill_tables(HERE / "README.md", of_both | own)
    fill_tables(PAGE, of_both | {"after imagenet": tables.after_imagenet(found)})
    of_pools = {f"all images rather than {size}": of for size, of in pools.items()}
    write_json(figures(found | of_pools, saved), HERE / "map.json")
    draw(results, answered, HERE / "map.png")


def figures(
    found: dict[str, dict[Key, Difference]], saved: dict[str, dict[Key, LabelsSaved]]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return all differences and savings as nested values, by question or arm, set and labels a class."""
    values: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for question, differing in found.items():
        for key, each in differing.items():
            place = values.setdefault(question, {}).setdefault(key.set, {})
            place[count(key.budget)] = {
                "difference": each.difference,
                "low": each.low,
                "high": each.high,
                "seeds": each.seeds,
            }
    for arm, saving in saved.items():
        for key, factor in saving.items():
            values.setdefault(f"labels saved by {arm}", {}).setdefault(key.set, {})[str(key.budget)] = factor.metrics()
    return values


if __name__ == "__main__":
    main()
