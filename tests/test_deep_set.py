"""A data set of grey images of 12 bits, from the split to the final model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn import load_classifier
from quarterturn.app.export import preprocessing
from quarterturn.data.manifest import read_table
from quarterturn.data.pixel_store import Store
from quarterturn.training.model_file import load_network
from tests.conftest import QUICK, STAGES, run_stages, set_params
from tests.images import encoded, pgm, tiff
from tests.rooms import ROOT

SIDE, COUNT = QUICK["data__image_size"], 24
MODELS = ["outputs/pretrain", "outputs/transfer", "outputs/baseline", "final"]


def image_of(number: int) -> np.ndarray:
    """Noise of 12 bits, the brighter the higher the number."""
    highest = 500 + 3500 * number // (2 * COUNT)
    return np.random.default_rng(number).integers(0, highest, (SIDE, SIDE))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a project in which every stage has run on PNG, TIFF and PGM of 12 bits and on two images of 8 bits."""
    folder = tmp_path_factory.mktemp("deep")
    shutil.copy(ROOT / "params.yaml", folder)
    for number in range(2 * COUNT):
        path = folder / f"data/grey/{'cat' if number % 2 else 'dog'}/{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = image_of(number)
        match number % 3:
            case 0:
                path.with_suffix(".png").write_bytes(encoded(values.astype(np.uint16)))
            case 1:
                path.with_suffix(".tif").write_bytes(tiff(values))
            case 2:
                path.with_suffix(".pgm").write_bytes(pgm(values, 4095))
    for number, name in enumerate(("cat", "dog")):
        values = image_of(100 + number) % 256
        (folder / f"data/grey/{name}/bytes.png").write_bytes(encoded(values.astype(np.uint8)))
    set_params(folder, **QUICK | {"data__path": "data/grey", "transfer__epochs": 1, "baseline__epochs": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in ("final", "card"):
            patch.setattr(f"stages.{stage}.check_current", lambda: None)
        run_stages(*STAGES, "final", "card")
    return folder


@pytest.fixture
def store(project: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Provide its pixel store, in its folder."""
    monkeypatch.chdir(project)
    return Store("outputs", SIDE)


def test_no_image_is_black_and_equal_values_are_equal_pixels(store: Store) -> None:
    assert store.grey_range == (0, 4095)
    assert store.channels == 1
    assert len(store.table) == 2 * COUNT + 2
    for name, square in zip(store.table["image"], store.pixels, strict=True):
        if "bytes" in name:
            assert np.array_equal(square[:, :, 0], image_of(100 + ("dog" in name)) % 256)
        else:
            values = image_of(int(Path(name).stem))
            assert np.array_equal(square[:, :, 0], (values / 4095 * 255).round())
            assert square.mean() > 10


@pytest.mark.usefixtures("store")
def test_the_table_has_the_values_of_deep_images_only() -> None:
    table = read_table("outputs/split/images.csv").set_index("image")
    for name, row in table.iterrows():
        values = image_of(int(Path(str(name)).stem)) if "bytes" not in str(name) else None
        expected = ("", "") if values is None else (str(values.min()), str(values.max()))
        assert (row["lowest"], row["highest"]) == expected


@pytest.mark.parametrize("folder", MODELS)
def test_every_model_keeps_the_range_and_decodes_files_as_the_store_did(store: Store, folder: str) -> None:
    path = f"{folder}/model.safetensors"
    assert load_network(path)[1].grey_range == (0, 4095)
    classifier = load_classifier(path, "rotation" if "pretrain" in folder else "classes")
    for name, square in zip(store.table["image"], store.pixels, strict=True):
        assert np.array_equal(classifier.decode(Path("data/grey", name).read_bytes()), square)


@pytest.mark.usefixtures("store")
def test_predictions_from_files_are_those_of_the_test() -> None:
    tested = pd.read_csv("metrics/predictions.csv")
    recommended = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))["recommended"]
    found = load_classifier(f"outputs/{recommended}/model.safetensors")(Path("data/grey", n) for n in tested["image"])
    for label in ("cat", "dog"):
        assert [each[label] for each in found] == pytest.approx(tested[f"{recommended}_{label}"].tolist(), abs=2e-6)


@pytest.mark.usefixtures("store")
def test_card_and_export_say_the_range() -> None:
    card = Path("final/model-card.md").read_text("utf-8")
    assert (
        "\nIn grey images of more than 8 bits, the values 0 to 4,095 become black to white, as in training.\n" in card
    )
    assert preprocessing(load_classifier()).startswith("Map grey of more than 8 bits linearly, 0 to 0 and 4095 to 255")


def test_the_fingerprint_changes_with_the_range(store: Store) -> None:
    before = store.fingerprint
    store.grey_range = (0, 65_535)
    assert store.fingerprint != before
