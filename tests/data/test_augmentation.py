"""Random changes that leave orientation readable and give no cue of it."""

import pytest
import torch

from quarterturn.core.params import Augmentation
from quarterturn.data.augmentation import augment, draw_changes
from quarterturn.data.datasets import Augmenter, RotatedImages

OFF = Augmentation(crop=1.0, mirror=False, color=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def changed_by(images: torch.Tensor, settings: Augmentation, generator: torch.Generator) -> torch.Tensor:
    return augment(images, settings, draw_changes(settings, len(images), generator))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(64, 3, 16, 16, generator=seeded(1))


def test_switched_off_it_changes_nothing(images: torch.Tensor) -> None:
    assert torch.equal(changed_by(images, OFF, seeded()), images)


def test_mirroring_is_exact_and_meets_half_of_the_images(images: torch.Tensor) -> None:
    mirrored = changed_by(images, OFF.model_copy(update={"mirror": True}), seeded())
    swapped = [torch.equal(new, old.flip(2)) for new, old in zip(mirrored, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(mirrored, images, strict=True)]
    assert all(a != b for a, b in zip(swapped, kept, strict=True))
    assert 16 < sum(swapped) < 48


def test_a_crop_is_a_square_inside_the_image_magnified_alike_in_both_directions() -> None:
    # On an image whose value is its column, bilinear interpolation is exact: the crop's slope is its scale.
    column = torch.arange(16.0).expand(200, 1, 16, 16) / 16
    row = column.transpose(2, 3)
    settings = OFF.model_copy(update={"crop": 0.5})
    across, down = (changed_by(ramp, settings, seeded(5)) for ramp in (column, row))
    scale_across = (across[:, 0, 8, 9] - across[:, 0, 8, 6]) / 3 * 16
    scale_down = (down[:, 0, 9, 8] - down[:, 0, 6, 8]) / 3 * 16
    torch.testing.assert_close(scale_across, scale_down, atol=1e-4, rtol=0)
    assert scale_across.min() >= 0.5 - 1e-4
    assert scale_across.max() <= 1 + 1e-4
    assert scale_across.std() > 0.1
    assert across.min() >= 0
    assert across.max() <= 15 / 16


def test_colour_stays_in_range_and_changes_each_image(images: torch.Tensor) -> None:
    changed = changed_by(images, OFF.model_copy(update={"color": 0.5}), seeded())
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert ((changed - images).abs().amax(dim=(1, 2, 3)) > 0.001).all()


def test_all_angles_of_an_image_get_the_same_change(images: torch.Tensor) -> None:
    pixels = (images.permute(0, 2, 3, 1).numpy() * 255).astype("uint8")
    rows = torch.arange(64).numpy()
    settings = Augmentation(crop=0.6, mirror=True, color=0.3)
    rotated, targets = RotatedImages(pixels, rows, [0, 90, 180, 270]).batch(rows, Augmenter(settings, seeded()))
    upright = rotated[:64]
    for index in range(1, 4):
        assert torch.equal(torch.rot90(rotated[targets == index], -index, (2, 3)), upright)
