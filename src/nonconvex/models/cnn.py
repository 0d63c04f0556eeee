"""The small convolutional network of the MNIST-1D benchmark (Greydanus & Kobak 2024)."""

import torch.nn.functional as F
from torch import Tensor, nn


class Cnn(nn.Module):
    """Three strided convolutions and a linear map: (B, 40) -> (B, classes). 5,210 parameters by default."""

    def __init__(self, classes: int = 10, channels: int = 25):
        super().__init__()
        self.conv1 = nn.Conv1d(1, channels, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.head = nn.Linear(5 * channels, classes)  # 40 -> 19 -> 10 -> 5 positions

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu(conv(x))
        return self.head(x.flatten(1))
