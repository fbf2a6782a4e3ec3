"""The moving average of weights is torch's, bit for bit."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from quarterturn.training.averaging import MovingAverage


@pytest.mark.parametrize("layers", [[nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5)], [nn.Linear(3, 2)]])
def test_an_average_is_that_of_torch_and_goes_on_from_a_saved_one(layers: list[nn.Module]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(*layers)
    expected = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    average = MovingAverage(network, 0.9)
    for step in range(30):
        for values in network.state_dict().values():
            values.copy_(7 * step if values.dtype == torch.int64 else torch.randn_like(values))
        expected.update_parameters(network)
        average.update()
        if step == 10:
            saved = average.state_dict()
            average = MovingAverage(network, 0.9)
            average.load_state_dict(saved)
        states = expected.state_dict(), average.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
