"""ResNet-18 (arXiv 1512.03385) as an encoder, with the deep stem of ResNet-C (arXiv 1812.01187)."""

from __future__ import annotations

from torch import Tensor, nn

from eseg_ros.models.layers import ConvNorm, conv_norm_relu

STEM_CHANNELS = 128
STAGE_CHANNELS = (64, 128, 256, 512)
BLOCKS_A_STAGE = 2


class ResNet18(nn.Module):
    """An image in, the features of the four stages out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm_relu(3, 64, 3, stride=2),
            conv_norm_relu(64, 64, 3),
            conv_norm_relu(64, STEM_CHANNELS, 3),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        channels = STEM_CHANNELS
        for index, out_channels in enumerate(STAGE_CHANNELS):
            stage = nn.Sequential()
            for block in range(BLOCKS_A_STAGE):
                stage.append(BasicBlock(channels, out_channels, stride=2 if index > 0 and block == 0 else 1))
                channels = out_channels
            self.stages.append(stage)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> 4 x (B, 64 to 512, H/4 to H/32, W/4 to W/32)."""
        x = self.stem(image)  # (B, 128, H/4, W/4)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_norm_relu(in_channels, out_channels, 3, stride=stride), ConvNorm(out_channels, out_channels, 3)
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = nn.Identity() if same else ConvNorm(in_channels, out_channels, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        x = self.activation(self.layers(x) + self.shortcut(x))
        return x
