"""Features of all images: of the last run where it fits, else read and decoded here; labels are those of now."""

from pathlib import Path

import numpy as np
import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.labelling.embeddings import READ, embedded_images
from quarterturn.training.model_file import blank_network, save_network
from quarterturn.training.starting import PRETRAINED
from tests.conftest import set_params
from tests.images import encoded, fill, scene
from tests.models import sized
from tests.rooms import ROOT

IMAGES = {f"{number}.png": encoded(scene(seed=number)) for number in range(12)}


def params(**data: object) -> Params:
    """Return the parameters of a small network on images/."""
    given = load_params(ROOT / "params.yaml")
    changed = given.data.model_copy(update={"path": "images", "image_size": 16, **data})
    return given.model_copy(update={"data": changed, "model": sized([4, 8])})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide 12 images and a rotation classifier, without a run."""
    monkeypatch.chdir(tmp_path)
    fill(Path("images"), IMAGES)
    model = sized([4, 8])
    network = blank_network(model, 3, 4, [0.5] * 3, [0.25] * 3, seed=1)
    save_network(network, "rotation", ["0", "90", "180", "270"], model, 16, PRETRAINED)


def test_without_weights_and_run_the_way_to_weights_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("images"), IMAGES)
    with pytest.raises(UserError, match="`quarterturn fetch weights efficientnet-lite0`"):
        embedded_images(params())


@pytest.mark.usefixtures("project")
def test_without_a_run_images_are_read_once_and_stdout_stays_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded_images(params())
    assert first.table["image"].tolist() == sorted(IMAGES)
    assert first.features.shape == (12, 8 * 4**2)
    assert (first.targets == -1).all()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("quarterturn.labelling.embeddings.read_images", None)
    np.testing.assert_array_equal(embedded_images(params()).features, first.features)


@pytest.mark.usefixtures("project")
def test_files_that_change_are_read_again_and_copies_count_once() -> None:
    embedded_images(params())
    before = list(READ.iterdir())
    fill(Path("images"), {"13.png": encoded(scene(seed=13)), "3copy.png": IMAGES["3.png"], "bad.png": b"no image"})
    found = embedded_images(params(max_rejected=0.5))
    assert found.table["image"].tolist() == sorted([*IMAGES, "13.png"])
    assert len(list(READ.iterdir())) == 1
    assert list(READ.iterdir()) != before


@pytest.mark.usefixtures("project")
def test_labels_are_those_of_now_and_a_labelled_copy_is_kept() -> None:
    embedded_images(params())
    fill(
        Path("images"), {"copy.png": IMAGES["0.png"], "labels.csv": b"path,label\ncopy.png,dog\n2.png,cat\n3.png,cow\n"}
    )
    found = embedded_images(params())
    images = found.table["image"].tolist()
    assert "0.png" not in images
    assert found.targets[images.index("copy.png")] == 1
    assert found.targets[images.index("2.png")] == 0
    assert (found.targets >= 0).sum() == 2


@pytest.mark.usefixtures("project")
def test_with_labels_the_block_is_chosen() -> None:
    fill(Path("images"), {f"cat/{number}.png": encoded(scene(seed=100 + number)) for number in range(6)})
    fill(Path("images"), {f"dog/{number}.png": encoded(scene(64, 64, seed=200 + number)) for number in range(6)})
    found = embedded_images(params())
    block, grid = found.place
    assert found.features.shape == (24, [4, 8][block - 1] * grid**2)


@pytest.mark.usefixtures("workspace")
def test_a_run_is_used_while_its_images_are_those_that_are_there() -> None:
    given = load_params()
    found = embedded_images(given)
    assert not READ.exists()
    assert "rank" in found.table
    assert (found.targets >= 0).sum() == 80
    fill(Path("data/arrows"), {"pool/new.png": encoded(scene(seed=7))})
    again = embedded_images(given)
    assert READ.exists()
    assert "pool/new.png" in again.table["image"].tolist()
    set_params(Path(), data__image_size=16)
    with pytest.raises(UserError):
        embedded_images(load_params())
