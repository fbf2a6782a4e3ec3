"""A training that was stopped goes on to the same bytes, and nobody else's checkpoint is taken for its own."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quarterturn.core.errors import UserError
from quarterturn.core.params import TrainingPlan
from quarterturn.training import checkpoint
from quarterturn.training.checkpoint import EVERY, Checkpoint, checkpoints
from quarterturn.training.device import choose
from quarterturn.training.loop import Best, Job, cross_entropy_of, fit, fit_all_epochs
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network
from tests.models import sized, training_plan
from tests.training.test_loop import AUGMENTATION, examples

PLAN = training_plan(epochs=5, batch_size=16, learning_rate=0.01, weight_decay=0.01, averaging=0.9)
OTHER_PLAN = PLAN.model_copy(update={"learning_rate": 0.02})
MODEL = sized([8, 8]).model_copy(update={"head": [6], "dropout": 0.5})


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def at_every_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(EVERY, "0")
    monkeypatch.chdir(tmp_path)


def fitted(path: Path | None, killed_after: int = 99) -> tuple[Network, Best, list[Any]]:
    curve: list[Any] = []

    def log(epoch: int, figures: dict[str, float]) -> None:
        curve.append((epoch, figures))
        if epoch > killed_after:
            raise Killed

    network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
    job = Job("test", PLAN, AUGMENTATION, 0, choose(), Checkpoint(path))
    best = fit(network, examples(90, 0), examples(40, 1), job, log)
    return network, best, curve


def same_weights(one: Network, other: Network) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_training_killed_after_any_epoch_ends_with_the_same_bytes(epoch: int, tmp_path: Path) -> None:
    whole, best, curve = fitted(None)
    path = tmp_path / "1.pt"
    with pytest.raises(Killed):
        fitted(path, killed_after=epoch)
    assert torch.load(path, weights_only=True)["state"]["epoch"] == epoch
    network, resumed, again = fitted(path)
    assert same_weights(network, whole)
    assert (resumed, again) == (best, curve)


def test_a_finished_training_is_not_done_again(tmp_path: Path) -> None:
    network, best, curve = fitted(tmp_path / "1.pt")
    other, kept, again = fitted(tmp_path / "1.pt", killed_after=5)
    assert same_weights(network, other)
    assert (kept, again) == (best, curve)
    assert (Checkpoint(tmp_path / "1.pt").state or {}).keys() == {"epoch"}  # what only going on needs is gone


@pytest.mark.parametrize("left", [0, 100, 20_000])
def test_a_damaged_checkpoint_is_none(left: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "1.pt"
    with pytest.raises(Killed):
        fitted(path, killed_after=2)
    path.write_bytes(path.read_bytes()[:left])
    capsys.readouterr()
    network, _, curve = fitted(path)
    assert "is damaged, so this training begins anew" in capsys.readouterr().err
    assert same_weights(network, fitted(None)[0])
    assert [epoch for epoch, _ in curve] == [1, 2, 3, 4, 5]


def test_a_training_without_validation_goes_on_too(tmp_path: Path) -> None:
    def trained(path: Path | None, killed_at: int = 10**9) -> Network:
        network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
        training = examples(90, 0)
        steps = 0

        def loss_of(chosen: Any, augmentation: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > killed_at:
                raise Killed
            return cross_entropy_of(network, training, choose())(chosen, augmentation)

        plan = PLAN.model_copy(update={"layer_decay": 0.7})
        fit_all_epochs(network, loss_of, 90, Job("test", plan, AUGMENTATION, 0, choose(), Checkpoint(path)))
        return network

    whole = trained(None)
    with pytest.raises(Killed):
        trained(tmp_path / "1.pt", killed_at=20)
    assert same_weights(trained(tmp_path / "1.pt"), whole)
    assert same_weights(trained(tmp_path / "1.pt", killed_at=0), whole)


def project(folder: Path) -> list[Path]:
    for name in ("quarterturn", "stages"):
        (folder / name / "room").mkdir(parents=True)
        (folder / name / "room/code.py").write_text("1")
    (folder / "input.csv").write_text("a")
    return [Path("input.csv")]


def killed_after(stage: str, inputs: list[Path], trainings: int) -> None:
    with suppress(Killed), checkpoints(stage, PLAN, inputs) as saved:
        for number in range(1, trainings + 1):
            saved.of(str(number)).save({"epoch": number})
        raise Killed


def test_the_time_between_two_is_a_number_or_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(EVERY)
    assert not Checkpoint(tmp_path / "1.pt").due
    monkeypatch.setenv(EVERY, "0")
    assert Checkpoint(tmp_path / "1.pt").due
    monkeypatch.setenv(EVERY, "ten")
    with pytest.raises(UserError, match="QUARTERTURN_CHECKPOINT_SECONDS is 'ten'"):
        Checkpoint(tmp_path / "1.pt")


def found(inputs: list[Path], plan: TrainingPlan = PLAN) -> bool:
    """Whether a checkpoint is there to go on from; it stays."""
    with suppress(Killed), checkpoints("pretrain", plan, inputs) as saved:
        state = saved.of("1").state
        raise Killed
    return state is not None


def test_another_number_format_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = project(tmp_path)

    def in_format(dtype: torch.dtype) -> None:
        monkeypatch.setattr(checkpoint, "choose", lambda: replace(choose(), dtype=dtype))

    in_format(torch.bfloat16)
    killed_after("pretrain", inputs, 1)
    assert found(inputs)
    in_format(torch.float32)
    assert not found(inputs)


@pytest.mark.parametrize("changed", ["quarterturn/room/code.py", "stages/room/code.py", "input.csv"])
def test_whatever_decides_the_result_decides_which_checkpoint_is_found(changed: str, tmp_path: Path) -> None:
    inputs = project(tmp_path)
    killed_after("pretrain", inputs, 1)
    assert found(inputs)
    assert not found(inputs, OTHER_PLAN)
    (tmp_path / changed).write_text("changed")
    assert not found(inputs)


@pytest.mark.parametrize("changed", ["quarterturn/room/code.py", "stages/room/code.py", "input.csv"])
def test_what_is_replaced_while_a_stage_runs_is_not_what_it_ran_with(changed: str, tmp_path: Path) -> None:
    inputs = project(tmp_path)
    original = (tmp_path / changed).read_text()
    with suppress(Killed), checkpoints("pretrain", PLAN, inputs) as saved:
        (tmp_path / "new").write_text("changed")
        (tmp_path / "new").replace(tmp_path / changed)
        saved.of("1").save({"epoch": 1})
        raise Killed
    assert not found(inputs)
    (tmp_path / changed).write_text(original)
    assert found(inputs)


def test_checkpoints_go_when_the_stage_ends_well_and_stay_when_it_does_not(tmp_path: Path) -> None:
    inputs = project(tmp_path)
    killed_after("pretrain", inputs, 1)
    with checkpoints("pretrain", OTHER_PLAN, inputs) as saved:
        assert saved.of("1").state is None
        saved.of("1").save({"epoch": 1})
        assert len(list(Path("outputs/scratch").glob("pretrain-*"))) == 2
    assert not list(Path("outputs/scratch").iterdir())


def test_each_training_of_a_stage_finds_its_own(tmp_path: Path) -> None:
    inputs = project(tmp_path)
    killed_after("baseline", inputs, 2)
    with checkpoints("baseline", PLAN, inputs) as saved:
        assert [saved.of(name).state for name in ("1", "2", "3")] == [{"epoch": 1}, {"epoch": 2}, None]
