"""Modules of a few layers, one for each kind of layer that PEFT adapts."""

from collections import OrderedDict

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D


class Shape(nn.Module):
    """Gives its input another shape."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, values):
        return values.reshape(-1, *self.shape)


class Chain(nn.Sequential):
    """Named layers, one after another."""

    def __init__(self, **layers):
        super().__init__(OrderedDict(layers))


class WithEmbedding(Chain):
    """Says which of its layers is the embedding, as models of transformers do."""

    def get_input_embeddings(self):
        return self.embed_tokens

    def get_output_embeddings(self):
        return None


class Attend(nn.Module):
    """`mha`, then `lin0`."""

    def __init__(self, **options):
        super().__init__()
        self.mha = nn.MultiheadAttention(10, 2, **options)
        self.lin0 = nn.Linear(10, 2)

    def forward(self, values):
        return self.lin0(self.mha(values, values, values, need_weights=False)[0])


class Times(nn.Module):
    """A layer whose weight is multiplied from the right, and which is no `nn.Linear`."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.ones(outputs))

    def forward(self, values):
        return values @ self.weight + self.bias


def mlp(bias=True, hidden=20, outputs=2):
    return Chain(lin0=nn.Linear(10, hidden, bias), relu=nn.ReLU(), lin1=nn.Linear(hidden, outputs, bias))


def norms():
    return Chain(
        layernorm0=nn.LayerNorm(10), lin0=nn.Linear(10, 20), layernorm1=nn.LayerNorm(20), lin1=nn.Linear(20, 2)
    )


def same():
    return Chain(lin0=nn.Linear(10, 20), relu=nn.ReLU(), lin1=nn.Linear(20, 20), end=nn.Linear(20, 2))


def deep(layers=12):
    blocks = [Chain(lin0=nn.Linear(10, 10), relu=nn.ReLU(), lin1=nn.Linear(10, 10)) for _ in range(layers)]
    return Chain(layers=nn.Sequential(*blocks), out=nn.Linear(10, 2))


def times():
    return Chain(lin0=Times(10, 20), relu=nn.ReLU(), lin1=Times(20, 2))


def embedding(name="emb", rows=100, kind=Chain):
    return kind(**{name: nn.Embedding(rows, 5)}, conv1d=Conv1D(1, 5), flat=Shape(10), lin0=nn.Linear(10, 2))


def conv1d(bias=True):
    return Chain(shape=Shape(1, 10), conv1d=nn.Conv1d(1, 1, 2, bias=bias), flat=Shape(9), lin0=nn.Linear(9, 2))


def conv1d_wide():
    return Chain(shape=Shape(64, 10), conv1d=nn.Conv1d(64, 16, 2), flat=Shape(144), lin0=nn.Linear(144, 2))


def conv1d_kernel1():
    return Chain(shape=Shape(3, 10), conv1d=nn.Conv1d(3, 10, 1), flat=Shape(100), lin0=nn.Linear(100, 2))


def conv1d_groups():
    return Chain(shape=Shape(8, 10), conv1d=nn.Conv1d(8, 8, 3, groups=2), flat=Shape(64), lin0=nn.Linear(64, 2))


def conv2d(bias=True):
    return Chain(shape=Shape(5, 3, 3), conv2d=nn.Conv2d(5, 10, 3, bias=bias), flat=Shape(10), lin0=nn.Linear(10, 2))


def conv2d_between():
    return Chain(
        lin0=nn.Linear(10, 72), shape=Shape(8, 3, 3), conv2d=nn.Conv2d(8, 32, 3), flat=Shape(32), lin1=nn.Linear(32, 2)
    )


def conv2d_1x1():
    return Chain(shape=Shape(1, 3, 3), conv2d=nn.Conv2d(1, 10, 1), flat=Shape(90), lin0=nn.Linear(90, 2))


def conv2d_groups(groups=8, outputs=16):
    conv = nn.Conv2d(16, outputs, 3, groups=groups)
    return Chain(shape=Shape(16, 3, 3), conv2d=conv, flat=Shape(outputs), lin1=nn.Linear(outputs, 2))


def conv3d():
    return Chain(shape=Shape(5, 3, 3, 3), conv3d=nn.Conv3d(5, 10, 3), flat=Shape(10), lin0=nn.Linear(10, 2))


def mixed_layers():
    """A linear layer, an embedding and a convolution, none of which feeds the other."""

    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(24, 24)
            self.embed = nn.Embedding(30, 24)
            self.conv2d = nn.Conv2d(6, 12, 2)

        def forward(self, tokens):
            values = self.linear(self.embed(tokens))
            return self.conv2d(values.reshape(-1, 6, 2, 2)).flatten(1)

    return Three()
