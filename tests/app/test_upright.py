"""Which images lie on their side: listed by a classifier, and rotated only when asked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quarterturn.app.classifier import Classifier
from quarterturn.app.cli import main
from quarterturn.app.upright import angle_probabilities, upright
from quarterturn.core.errors import UserError
from quarterturn.core.files import write_json
from quarterturn.data.pixel_store import Pixels
from quarterturn.training.model_file import blank_network, save_network
from tests.images import encoded, fill, pack
from tests.models import sized


def sky(angle: int) -> Image.Image:
    """Draw white above and black below, rotated counter-clockwise."""
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[:12] = 255
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, angle // 90)))


def told(self: Classifier, squares: Pixels) -> np.ndarray:
    """Return what a classifier says that knows where the sky is: 0.97 for that angle, 0.01 for each other."""
    light = squares.astype(float).mean(axis=3)
    edges = [light[:, 0].mean(1), light[:, :, 0].mean(1), light[:, -1].mean(1), light[:, :, -1].mean(1)]
    index = [int(name) // 90 for name in self.labels]
    return (np.eye(4)[np.argmax(edges, axis=0)] * 0.96 + 0.01)[:, index]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save([0, 90, 180, 270])
    monkeypatch.setattr(Classifier, "probabilities", told)
    kinds = {0: ("png", "PNG"), 90: ("jpg", "JPEG"), 180: ("png", "PNG"), 270: ("webp", "WEBP")}
    fill(Path("photos"), {f"{angle}.{end}": encoded(sky(angle), kind) for angle, (end, kind) in kinds.items()})


def save(angles: list[int], task: str = "rotation") -> None:
    model = sized([4])
    network = blank_network(model, 3, len(angles), [0.5] * 3, [0.5] * 3, seed=0)
    save_network(network, task, [str(angle) for angle in angles], model, 16, "outputs/pretrain/model.safetensors")


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path("photos").iterdir())}


def test_it_lists_what_does_not_lie_upright_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    main(["upright", "photos"])
    assert capsys.readouterr().out.splitlines() == [
        "0.970\tupside down\tphotos/180.png",
        "0.970\ttop to the right\tphotos/270.webp",
        "0.970\ttop to the left\tphotos/90.jpg",
        "not upright: 3 of 4 images, at 0.9 or more",
    ]
    assert files() == before


def test_an_image_that_is_named_twice_is_turned_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/link.jpg").symlink_to("90.jpg")
    Path("photos/0link.jpg").symlink_to("90.jpg")  # becomes a file of its own
    with pytest.raises(SystemExit):  # the WebP is not rotated
        main(["upright", "--turn", "photos", "photos/90.jpg"])
    ends = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert ends == ["rotated", "rotated", *["rotated already, as it was named twice"] * 2]
    main(["upright", "photos/90.jpg", "photos/link.jpg", "photos/0link.jpg"])
    assert "not upright: 0 of 3 images" in capsys.readouterr().out
    assert Path("photos/link.jpg").is_symlink()


def test_a_folder_that_cannot_be_written_stops_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if target.name == "180.png":
            raise PermissionError(13, "Permission denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SystemExit):
        main(["upright", "--turn", "photos"])
    ends = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines()[:3]]
    assert ends == ["not rotated: Permission denied", "WEBP is not rotated: that might lose something", "rotated"]


def test_what_is_less_sure_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["upright", "--sure", "0.98", "photos"])
    assert capsys.readouterr().out == "not upright: 0 of 4 images, at 0.98 or more\n"


def test_when_asked_it_turns_them_and_the_second_time_finds_none(capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    with pytest.raises(SystemExit) as ending:
        main(["upright", "--turn", "photos"])
    assert ending.value.code == 1
    printed = capsys.readouterr()
    outcomes = {line.split("\t")[2]: line.split("\t")[3] for line in printed.out.splitlines()[:3]}
    assert outcomes == {
        "photos/180.png": "rotated",
        "photos/90.jpg": "rotated",
        "photos/270.webp": "WEBP is not rotated: that might lose something",
    }
    assert "1 of 3 could not be rotated" in printed.err
    after = files()
    assert {name for name in before if before[name] == after[name]} == {"0.png", "270.webp"}
    main(["upright", "photos"])
    assert "not upright: 1 of 4 images" in capsys.readouterr().out.splitlines()[-1]


def test_what_is_in_a_zip_is_listed_and_never_turned(capsys: pytest.CaptureFixture[str]) -> None:
    archive = pack(Path("photos.zip"), {"a.jpg": encoded(sky(90), "JPEG")})
    before = archive.read_bytes()
    with pytest.raises(SystemExit):
        main(["upright", "--turn", "photos.zip"])
    assert "photos.zip/a.jpg\tnot rotated: in a .zip" in capsys.readouterr().out
    assert archive.read_bytes() == before


def test_four_looks_are_averaged_each_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from quarterturn.app.classifier import load_classifier

    classifier = load_classifier(task="rotation")
    squares = np.stack([classifier.decode(encoded(sky(angle))) for angle in (0, 90, 180, 270)])
    assert angle_probabilities(classifier, squares) == pytest.approx(np.eye(4) * 0.96 + 0.01)
    # One that always says 90 says nothing.
    monkeypatch.setattr(
        Classifier, "probabilities", lambda _, squares: np.tile([0.0, 1.0, 0.0, 0.0], (len(squares), 1))
    )
    assert angle_probabilities(classifier, squares) == pytest.approx(np.full((4, 4), 0.25))


def test_with_angles_that_lead_to_others_there_is_one_look(capsys: pytest.CaptureFixture[str]) -> None:
    save([0, 90])
    main(["upright", "photos/90.jpg", "photos/0.png"])
    assert "not upright: 1 of 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("angles", "task", "line"),
    [
        ([90, 180], "rotation", "knows 90, 180°, so not what is upright"),
        ([0, 90], "classes", "(classes), not rotation"),
    ],
)
def test_a_model_that_cannot_tell_is_refused(
    angles: list[int], task: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(angles, task)
    with pytest.raises(SystemExit):
        main(["upright", "photos"])
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("sure", ["90", "0", "-1", "nan"])
def test_a_probability_that_is_none_is_refused(sure: str, capsys: pytest.CaptureFixture[str]) -> None:
    save([0, 90])
    with pytest.raises(SystemExit):
        main(["upright", "--sure", sure, "photos"])
    assert f"--sure is {sure}; it is a probability above 0, at most 1" in capsys.readouterr().err


def test_a_classifier_that_has_learnt_nothing_is_refused() -> None:
    write_json({"best_epoch": 0}, "metrics/pretrain.json")
    with pytest.raises(UserError, match="has learnt nothing, as pretrain.epochs is 0"):
        upright(["photos"])
