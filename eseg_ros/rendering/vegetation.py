"""Trees and hedges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eseg_ros.labels import CAMVID
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.light import Color
from eseg_ros.rendering.painter import Painter, Texture
from eseg_ros.rendering.street import Street
from eseg_ros.rendering.textures import CROWNS, crown, leaf_wall, ramp

TREE = CAMVID.names.index("tree")

LEAVES: tuple[tuple[Color, Color], ...] = (
    ((24, 52, 34), (72, 150, 112)),
    ((26, 58, 46), (66, 158, 140)),
    ((36, 62, 40), (92, 160, 120)),
    ((18, 44, 34), (52, 122, 92)),
    ((22, 66, 62), (64, 172, 176)),
    ((20, 52, 92), (54, 136, 204)),
    ((40, 60, 60), (96, 140, 130)),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree with a round or pointed crown.

    Attributes:
        s, d: place of the trunk.
        height: of the top, metres.
        spread: width of the crown, metres.
        bare: height under the crown, metres.
        shape: which crown, see `textures.crown`.
        leaves: dark and bright colour.
    """

    s: float
    d: float
    height: float
    spread: float
    bare: float
    shape: int
    leaves: tuple[Color, Color]

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint trunk and crown."""
        radius = 0.05 * self.spread
        foot = street.place(self.s, self.d, radius)
        trunk_top = street.place(self.s, self.d, self.bare + 0.35 * (self.height - self.bare))
        painter.post(foot, trunk_top, (radius * 1.25, radius * 0.8), (62, 78, 92), TREE)
        distance = painter.camera.distance(foot)
        towards = (0.0, -0.6, 0.8)
        dark, bright = (painter.light.lit(color, towards, distance) for color in self.leaves)
        picture = crown(self.shape)
        if painter.light.sun[0] > 0:
            picture = np.ascontiguousarray(picture[:, ::-1])
        tall = self.height - self.bare
        center = street.place(self.s, self.d, self.bare + tall / 2)
        painter.sprite(center, (self.spread * 1.15, tall * 1.15), picture, ramp(dark, bright), TREE)

    def shadow_points(self, street: Street, time: float) -> FloatArray:
        """World points whose shadows' convex hull is the crown's shadow. (N, 3)."""
        angles = np.linspace(0, 2 * np.pi, 9)[:-1]
        middle = street.place(self.s, self.d, (self.bare + self.height) / 2)
        reach = self.spread * 0.45
        ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(8)], axis=1) * reach + middle
        heights = np.array([[0.0, 0.0, 0.4], [0.0, 0.0, -0.4]]) * (self.height - self.bare)
        return np.concatenate([ring, middle + heights])


@dataclass(frozen=True, slots=True)
class Hedge:
    """A clipped hedge along the street.

    Attributes:
        start, end: metres along the street.
        d: distance of its front, signed.
        height: metres.
        leaves: texture.
        top: colour of the upper side.
    """

    start: float
    end: float
    d: float
    height: float
    leaves: Texture
    top: Color

    def paint(self, painter: Painter, street: Street, time: float) -> None:
        """Paint the front, the near end and the top."""
        side = 1.0 if self.d > 0 else -1.0
        back = self.d + side * 0.9
        ends = [(self.start, self.d), (self.end, self.d), (self.end, back), (self.start, back)]
        top = np.array([street.place(s, d, self.height) for s, d in ends])
        low = np.array([street.place(s, d) for s, d in ends])
        if self.height < painter.camera.position[2]:
            painter.face(top, self.top, (0.0, 0.0, 1.0), TREE)
        if painter.camera.position[1] < self.start:
            near_end = np.array([low[0], low[3], top[3], top[0]])
            painter.panel(near_end, self.leaves, (0.0, -1.0, 0.0), TREE)
        painter.panel(np.array([low[0], low[1], top[1], top[0]]), self.leaves, (-side, 0.0, 0.0), TREE)


def random_tree(rng: np.random.Generator, s: float, d: float, *, small: bool) -> Tree:
    """A street tree, or a larger one from a garden or park; `small` keeps it off the house fronts."""
    height = rng.uniform(5.0, 7.5) if small else rng.uniform(7.0, 12.5)
    bare = rng.uniform(2.2, 2.8) if small else rng.uniform(1.4, 2.6)
    return Tree(
        s=s,
        d=d,
        height=height,
        spread=(height - bare) * rng.uniform(0.7, 1.0),
        bare=bare,
        shape=int(rng.integers(CROWNS)),
        leaves=_random_leaves(rng),
    )


def random_hedge(rng: np.random.Generator, start: float, end: float, d: float) -> Hedge:
    """A hedge between two places along the street."""
    height = rng.uniform(1.1, 2.2)
    dark, bright = _random_leaves(rng)
    middle = tuple((np.add(dark, bright) * 0.42).tolist())
    texture = leaf_wall(rng, int((end - start) * 16), int(height * 16), middle)
    return Hedge(start=start, end=end, d=d, height=height, leaves=Texture(texture), top=bright)


def _random_leaves(rng: np.random.Generator) -> tuple[Color, Color]:
    weights = np.array([4, 3, 3, 3, 2, 1, 1]) / 17
    dark, bright = LEAVES[int(rng.choice(len(LEAVES), p=weights))]
    change = rng.uniform(0.85, 1.12)
    return _times(dark, change), _times(bright, change)


def _times(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor
