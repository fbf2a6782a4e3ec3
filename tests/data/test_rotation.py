"""Quarter turns, and the angles they stand for."""

import numpy as np
import pytest
import torch

from quarterturn.core.errors import UserError
from quarterturn.data.angles import read_angles, write_angles
from quarterturn.data.rotation import draw_targets, rotate, rotate_all, rotate_each

ANGLES = [0, 90, 180, 270]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_four_quarter_turns_give_the_image_back(images: torch.Tensor) -> None:
    rotated = images
    for _ in range(4):
        rotated = rotate(rotated, 90)
    assert torch.equal(rotated, images)


def test_90_degrees_is_counter_clockwise(images: torch.Tensor) -> None:
    # Counter-clockwise, the right edge becomes the top edge, and what was its top comes to lie left.
    assert torch.equal(rotate(images, 90)[:, :, 0, :], images[:, :, :, -1])


def test_turn_all_agrees_with_numpy_and_labels_every_angle(images: torch.Tensor) -> None:
    rotated, targets = rotate_all(images, ANGLES)
    assert rotated.shape == (20, 3, 8, 8)
    for example, target, original in zip(rotated, targets.tolist(), list(images) * 4, strict=True):
        expected = np.rot90(original.numpy(), ANGLES[target] // 90, (1, 2))
        np.testing.assert_array_equal(example.numpy(), expected)
    assert targets.bincount().tolist() == [5, 5, 5, 5]


def test_turn_each_turns_by_the_target(images: torch.Tensor) -> None:
    targets = torch.tensor([0, 1, 1, 0, 1])
    rotated = rotate_each(images, [90, 180], targets)
    for index, target in enumerate(targets.tolist()):
        assert torch.equal(rotated[index], rotate(images[index : index + 1], [90, 180][target])[0])


def test_drawn_angles_depend_on_the_seed_only_and_are_balanced() -> None:
    drawn = draw_targets(10_000, ANGLES, 3)
    assert torch.equal(drawn, draw_targets(10_000, ANGLES, 3))
    assert not torch.equal(drawn, draw_targets(10_000, ANGLES, 4))
    assert all(2_300 < count < 2_700 for count in drawn.bincount().tolist())


def test_a_task_is_read_as_it_was_written(tmp_path) -> None:
    write_angles([90, 0, 270], tmp_path / "rotation.json")
    assert read_angles(tmp_path / "rotation.json") == [90, 0, 270]


@pytest.mark.parametrize("text", ["", "[]", '{"angles": {"1": 90}}', '{"angles": {"0": "x"}}'])
def test_what_is_no_task_is_a_user_error(tmp_path, text: str) -> None:
    (tmp_path / "rotation.json").write_text(text)
    with pytest.raises(UserError, match="rotation.json"):
        read_angles(tmp_path / "rotation.json")
