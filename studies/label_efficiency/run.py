"""The study: `make study`, or `make study DATA=folder-or-zip` on other images, with the params of photos.yaml.

Trainings run side by side, one thread each; those whose results are in the table beside this file, or in build/study,
are not repeated, so the study continues where it was stopped, and after a change of the params with what they change.
A change of the code does not count: delete NAME.csv to train anew. Several machines share the work with SHARE=1/2 and
SHARE=2/2.
"""

import argparse
import subprocess

import torch

from quarterturn.core.errors import run
from studies.clone import ROOT
from studies.label_efficiency import report
from studies.label_efficiency.arms.config import HERE, add_options, study_of
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.arms.work import COLUMNS, KEY, STATE, Doing, Unit, units
from studies.label_efficiency.estimate import print_estimate
from studies.label_efficiency.scoring.score import score
from studies.runs import Runs, finish, share_of


def main() -> None:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    add_options(parser)
    parser.add_argument("--share", default="1/1", help="part of the work for this machine, such as 1/2")
    options = parser.parse_args()
    study = study_of(options)
    if not options.data:
        subprocess.run(["dvc", "repro", "--quiet", "data/silhouettes/dvc.yaml"], cwd=ROOT, check=True)
    images = Images(study.data)
    runs = Runs(HERE / f"{study.name}.csv", ROOT / "build/study" / study.name, Unit, COLUMNS, KEY, STATE)
    works = units(study, images.digest)
    todo = [*works]
    missing = runs.missing(todo[share_of(options.share)])
    if missing:
        print_estimate(study, [works[unit] for unit in missing])
    if finish(runs, todo, Doing(study, images), "study", options.share, torch.cuda.device_count()):
        score(study, images, runs.of(todo))
        report.main()


if __name__ == "__main__":
    run(main, "study")
