"""Backbones: networks whose features can be had block by block."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor, nn

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Model


class ConvNet(nn.ModuleList):
    """Compute features by blocks of `depth` × (3×3 convolution, batch normalisation if wanted, ReLU) and a 2×2 maximum.

    Args:
        model: widths, depth and normalisation.
        channels: of the images.
    """

    def __init__(self, model: Model, channels: int) -> None:
        super().__init__()
        self.widths = list(model.widths)
        batch = model.normalization == "batch"
        before = channels
        for width in model.widths:
            layers: list[nn.Module] = []
            for _ in range(model.depth):
                layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not batch))
                layers += [nn.BatchNorm2d(width)] if batch else []
                layers.append(nn.ReLU(inplace=True))
                before = width
            # Before the last ReLU: the result is the same, and the ReLU has a quarter of the work.
            layers.insert(-1, nn.MaxPool2d(2))
            self.append(nn.Sequential(*layers))

    def features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield each block's output, (n, width, height', width'); a block that is not asked for is not computed."""
        x = images
        for block in self:
            x = block(x)
            yield x

    def block_features(self, images: Tensor, block: int) -> Tensor:
        """Return the output of a block, from 1; later blocks are not computed."""
        return next(islice(self.features(images), block - 1, None))

    def parameter_blocks(self) -> list[list[Tensor]]:
        """Return the parameters of each block."""
        return [list(block.parameters()) for block in self]


class TimmBackbone(nn.Module):
    """Compute features by a model of timm, which takes three channels.

    Its blocks are those whose features timm gives (`forward_intermediates`): the stages of a convolutional network, and
    its last features where these have another width; the layers of a vision transformer.

    Raises:
        UserError: timm has no such model, or does not give its features block by block.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.model = timm_model(architecture)
        if not hasattr(self.model, "forward_intermediates"):
            raise UserError(
                f"model.architecture: timm gives no features of {architecture}, block by block; take another"
            )
        self.widths = [int(info["num_chs"]) for info in self.model.feature_info]
        self._last = self.model.num_features != self.widths[-1]  # for example a convolution behind the last stage
        if self._last:
            self.widths.append(int(self.model.num_features))

    def features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield each block's output, (n, width, height', width')."""
        final, blocks = self.model.forward_intermediates(images)
        yield from blocks
        if self._last:
            yield final

    def block_features(self, images: Tensor, block: int) -> Tensor:
        """Return the output of a block, from 1; later blocks are not computed."""
        if self._last and block == len(self.widths):
            final: Tensor = self.model.forward_features(images)
            return final
        (found,) = self.model.forward_intermediates(
            images, indices=[block - 1], stop_early=True, intermediates_only=True
        )
        return found  # type: ignore[no-any-return]

    def parameter_blocks(self) -> list[list[Tensor]]:
        """Return the parameters of each group of layers, in order, as timm groups them for layer decay."""
        from timm.models import group_parameters

        groups: dict[int, list[str]] = group_parameters(self.model, self.model.group_matcher(coarse=True))
        by_name = dict(self.model.named_parameters())
        return [[by_name[name] for name in names] for names in groups.values()]

    def __len__(self) -> int:
        return len(self.widths)


def timm_model(architecture: str, classes: int | None = 0) -> Any:
    """Return timm's untrained model of that name; a `UserError` if there is none.

    Args:
        architecture: name of the model in timm.
        classes: of its classifier; 0: without one; None: as many as its published weights have.
    """
    try:
        import timm  # takes seconds, and convnets do without
    except ImportError as error:
        raise UserError(f"{architecture} needs timm: pip install 'quarterturn[weights]'") from error
    try:
        return timm.create_model(architecture, pretrained=False, num_classes=classes)
    except (RuntimeError, ValueError) as error:
        near = ", ".join(timm.list_models(f"*{architecture.split('_')[0]}*")[:3])
        hint = f"; it has {near}, …" if near else f" ({one_line(error, 80)})"
        raise UserError(f"timm has no model {architecture!r}{hint}") from error
