import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

HERE = Path(__file__).resolve().parent
# SETTINGS


class Part(nn.Module):
    """A part of the model by its name: `model.encoder.down1.weight`, `model.encoder[0].weight`."""

    def __getitem__(self, name):
        return getattr(self, str(name))


def device_of(model):
    """Where a model's weights are."""
    return next(iter(model.state_dict().values())).device


class Network(Part):
    """The model's networks and its score. The names of its state dict are those of the model file."""

    def __init__(self):
        super().__init__()
        for names, learned in ((PARAMETERS, True), (BUFFERS, False)):
            for name, shape in names.items():
                *parts, last = name.split(".")
                at = self
                for part in parts:
                    if part not in at._modules:
                        at.add_module(part, Part())
                    at = at._modules[part]
                if learned:
                    at.register_parameter(last, nn.Parameter(torch.zeros(shape)))
                else:
                    at.register_buffer(last, torch.zeros(shape))
        fixed = load_file(HERE / CONSTANTS) if CONSTANTS else {}
        self._places = [name for name in fixed if name.isdigit()]
        for name, value in fixed.items():
            self.register_buffer(f"constant_{name.replace('.', '_')}", value, persistent=False)

    @property
    def constants(self):
        """What is fixed beside weights: places of pixels, filters."""
        return [getattr(self, f"constant_{i}") for i in range(len(self._places))]
