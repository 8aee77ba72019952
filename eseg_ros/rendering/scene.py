"""A whole street: where everything stands, how it moves, and in which order it is painted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from typing import Protocol

import cv2
import numpy as np

from eseg_ros.rendering.buildings import Building, random_building
from eseg_ros.rendering.camera import FloatArray
from eseg_ros.rendering.furniture import (
    POST,
    Fence,
    LampPost,
    Sign,
    TrafficLight,
    random_fences,
    random_lamp,
    random_metal,
    random_sign,
)  # fmt: skip
from eseg_ros.rendering.ground import Ground
from eseg_ros.rendering.light import Light, random_light
from eseg_ros.rendering.painter import Painter
from eseg_ros.rendering.people import Cyclist, Pedestrian, random_cyclist, random_pedestrian
from eseg_ros.rendering.sky import paint_sky, paint_skyline, random_skyline
from eseg_ros.rendering.street import Street, random_street
from eseg_ros.rendering.vegetation import Hedge, Tree, random_hedge, random_tree
from eseg_ros.rendering.vehicles import Vehicle, random_vehicle

VIEW = 130.0
"""Metres of street in front of the camera that are painted."""
BEHIND = 14.0
"""Metres behind the camera where something long may still reach into the picture."""
SPEED = 8.0
"""Speed of the camera and of the traffic in its lane, m/s."""
THINNEST = 10 / 480
"""Share of the image's width below which posts and people are left out: what no network and no eye can name."""


class Thing(Protocol):
    """What stands or moves on the street and is painted by its distance; only some of it heeds the time (seconds)."""

    def paint(self, painter: Painter, street: Street, time: float) -> None: ...

    def shadow_points(self, street: Street, time: float) -> FloatArray: ...


Wall = Building | Hedge | Fence | Tree
"""What lies beyond the pavement."""


@dataclass(frozen=True)
class Scene:
    """A street and everything on it; the same at every moment but for what moves.

    Attributes:
        street: course and cross-section.
        light: daylight.
        ground: road and pavements.
        clouds: shift of the cloud pattern.
        skyline: see `sky.paint_skyline`.
        walls: houses, hedges, fences and the trees behind them.
        trees, posts, people, vehicles: what stands or moves on pavement and road.
        rails: fences along the kerb.
        crossings: places of zebra crossings, metres along the street.
    """

    street: Street
    light: Light
    ground: Ground
    clouds: tuple[float, float]
    skyline: list[tuple[float, float, float, bool]]
    walls: list[Wall]
    trees: list[Tree]
    posts: list[LampPost | Sign | TrafficLight]
    people: list[Pedestrian | Cyclist]
    vehicles: list[Vehicle]
    rails: list[Fence]
    crossings: list[float]

    def paint(self, painter: Painter, time: float) -> None:
        """Paint all there is at a time (seconds), from the sky to what stands next to the camera."""
        here = float(painter.camera.position[1])
        paint_sky(painter, self.clouds)
        walls = [wall for wall in self.walls if here - BEHIND < _far_end(wall) and _near_end(wall) < here + VIEW]
        things = self._things(painter, time)
        markings = [stripe for s in self.crossings if here - 3 < s < here + 60 for stripe in self._crossing(s)]
        self.ground.paint(painter, markings, self._shadows(walls, things, time))
        paint_skyline(painter, self.skyline)
        for wall in sorted(walls, key=_near_end, reverse=True):
            wall.paint(painter, self.street, time)
        for _, thing in things:
            thing.paint(painter, self.street, time)

    def _things(self, painter: Painter, time: float) -> list[tuple[float, Thing]]:
        """What is near enough to be painted, with its place along the street, far to near."""
        here = float(painter.camera.position[1])
        reach = painter.camera.focal / painter.camera.width / THINNEST  # metres a width of one metre can be seen
        placed: list[tuple[float, float, Thing]] = [(tree.s, VIEW, tree) for tree in self.trees]
        placed += [(rail.start[0], 60.0, rail) for rail in self.rails]
        for post in self.posts:
            radius = post.radius if isinstance(post, LampPost) else POST
            placed.append((post.s, min(45.0, reach * 2.3 * radius), post))
        for person in self.people:
            width = 0.5 if isinstance(person, Cyclist) else 0.3
            placed.append((person.station(time), reach * width, person))
        placed += [(vehicle.station(time), 65.0, vehicle) for vehicle in self.vehicles]
        visible = [(s, thing) for s, furthest, thing in placed if here - 4 < s < here + furthest]
        return sorted(visible, key=lambda entry: entry[0], reverse=True)

    def _shadows(
        self, walls: list[Wall], things: list[tuple[float, Thing]], time: float
    ) -> list[tuple[FloatArray, float]]:
        """Outlines on the ground, (N, 2), with the share of light they take."""
        shadows: list[tuple[FloatArray, float]] = []
        light = self.light
        lost = 0.85 * light.direct / (light.direct + light.ambient)
        for _, thing in things:
            if isinstance(thing, Vehicle):
                shadows.append((thing.footprint(self.street, time), 0.72))
        if lost < 0.08:
            return shadows
        for wall in walls:
            if isinstance(wall, Building):
                shadows.append((_cast(wall.shadow_points(self.street, time), light), lost))
        for _, thing in things:
            shadows.append((_cast(thing.shadow_points(self.street, time), light), lost))
        return shadows

    def _crossing(self, s: float) -> list[FloatArray]:
        """The stripes of a pedestrian crossing that begins at s, (4, 2) world x and y each."""
        stripes = []
        for d in np.arange(0.3 - self.street.kerb(-1), self.street.kerb(1) - 0.5, 1.0):
            corners = ((s, d), (s, d + 0.5), (s + 2.6, d + 0.5), (s + 2.6, d))
            stripes.append(np.array([self.street.place(*corner)[:2] for corner in corners]))
        return stripes


def random_scene(rng: np.random.Generator, length: float) -> Scene:
    """A street for a camera that drives from 0 to `length` metres along it."""
    street, light = random_street(rng), random_light(rng)
    end = length + VIEW
    crossings = np.arange(rng.uniform(12, 40), end, rng.uniform(45, 90)).tolist()
    rails, parked = _rails(rng, street, end), _parked(rng, street, end, crossings)
    pedestrians = _pedestrians(rng, street, end, crossings)
    return Scene(
        street=street,
        light=light,
        ground=Ground(street, rng),
        clouds=(rng.uniform(0, 512), rng.uniform(0, 512)),
        skyline=random_skyline(rng),
        walls=[wall for side in (-1, 1) for wall in _walls(rng, street, side, end, light.night)],
        trees=[tree for side in (-1, 1) for tree in _street_trees(rng, street, side, end)],
        posts=_posts(rng, street, end, crossings),
        people=[*_in_the_open(pedestrians, rails, parked), *_cyclists(rng, street, end)],
        vehicles=[*parked, *_traffic(rng, street, end)],
        rails=rails,
        crossings=crossings,
    )


def _walls(rng: np.random.Generator, street: Street, side: int, end: float, night: float) -> list[Wall]:
    """Houses in rows, and gardens or parks with fences, hedges and trees between them."""
    walls: list[Wall] = []
    line = street.building_line(side)
    built = rng.uniform(0.45, 0.85)
    s = -BEHIND - rng.uniform(0, 12)
    while s < end:
        if rng.random() < built:
            setback = rng.uniform(2.0, 4.0) if rng.random() < 0.3 else 0.0
            for _ in range(int(rng.integers(1, 4))):
                width = rng.uniform(7.0, 15.0)
                walls.append(random_building(rng, s, s + width, side, line + setback, night))
                if setback:
                    walls.extend(_boundary(rng, s, s + width, side * line))
                s += width + (0.0 if rng.random() < 0.7 else rng.uniform(0.5, 2.0))
        else:
            width = rng.uniform(8.0, 26.0)
            walls.extend(_boundary(rng, s, s + width, side * line))
            for tree_s in np.arange(s + 2.0, s + width, rng.uniform(4.0, 7.0)):
                d = side * (line + rng.uniform(3.0, 8.0))
                walls.append(random_tree(rng, float(tree_s), d, small=False))
            s += width
    return walls


def _boundary(rng: np.random.Generator, start: float, end: float, d: float) -> list[Hedge | Fence]:
    """A fence or a hedge along a garden; sometimes nothing hides it."""
    kind = rng.random()
    if kind < 0.65:
        return [*random_fences(rng, start, end, d, ("boards", "hoarding", "railing", "mesh"))]
    return [random_hedge(rng, start, end, d)]


def _street_trees(rng: np.random.Generator, street: Street, side: int, end: float) -> list[Tree]:
    if rng.random() < 0.35:
        return []
    d = side * (street.kerb(side) + 0.8)
    places = np.arange(rng.uniform(0, 14), end, rng.uniform(13, 24))
    return [random_tree(rng, float(s + rng.uniform(-1, 1)), d, small=True) for s in places if rng.random() < 0.85]


def _posts(
    rng: np.random.Generator, street: Street, end: float, crossings: list[float]
) -> list[LampPost | Sign | TrafficLight]:
    posts: list[LampPost | Sign | TrafficLight] = []
    pitch, color = rng.uniform(16, 24), random_metal(rng)
    model = random_lamp(rng, 0.0, 0.0, color)
    for side in (-1, 1):
        d = side * (street.kerb(side) + 0.5)
        for s in np.arange(rng.uniform(0, pitch), end, pitch):
            posts.append(LampPost(float(s), d, model.height, model.radius, color, model.arm))
        for s in np.arange(rng.uniform(2, 14), end, rng.uniform(11, 18)):
            posts.append(random_sign(rng, float(s + rng.uniform(-3, 3)), d + side * rng.uniform(-0.1, 0.4)))
    for s in crossings:
        if rng.random() < 0.6:
            phase = rng.uniform(0, 20)
            posts += [TrafficLight(s - 0.8, side * (street.kerb(side) + 0.45), phase) for side in (-1, 1)]
    return posts


def _pedestrians(rng: np.random.Generator, street: Street, end: float, crossings: list[float]) -> list[Pedestrian]:
    """People alone and in pairs on the pavements, and some who wait at the crossings."""
    people = []
    for side in (-1, 1):
        kerb = street.kerb(side)
        for s in np.arange(rng.uniform(-8, 0), end, rng.uniform(2.5, 4.5)):
            d = side * rng.uniform(kerb + 0.6, kerb + 1.8)
            first = random_pedestrian(rng, float(s + rng.uniform(-2, 2)), d)
            people.append(first)
            if rng.random() < 0.2:  # a companion at the same pace
                other = random_pedestrian(rng, first.s + rng.uniform(-0.3, 0.3), d + side * 0.65)
                people.append(replace(other, speed=first.speed, heading=first.heading))
        for s in crossings:
            for _ in range(int(rng.integers(0, 2))):
                place = s + rng.uniform(0.0, 2.6)
                waiting = random_pedestrian(rng, place, side * (kerb + rng.uniform(0.2, 0.9)))
                people.append(replace(waiting, speed=0.0, heading=-side * pi / 2 + rng.uniform(-0.5, 0.5)))
    return people


def _in_the_open(people: list[Pedestrian], rails: list[Fence], parked: list[Vehicle]) -> list[Pedestrian]:
    """Those who do not start behind a rail or a parked vehicle, of whom the camera would see a head at most."""
    hidden = [(min(rail.start[0], rail.end[0]) - 1.0, max(rail.start[0], rail.end[0]), rail.start[1]) for rail in rails]
    hidden += [(vehicle.s - 4.0, vehicle.s + 3.0, vehicle.d) for vehicle in parked]
    return [p for p in people if not any(start < p.s < end and d * p.d > 0 for start, end, d in hidden)]


def _cyclists(rng: np.random.Generator, street: Street, end: float) -> list[Cyclist]:
    """Riders on both cycle lanes, all of a lane at one speed."""
    riders = []
    for side in (-1, 1):
        ahead = side == street.own_side()
        speed = rng.uniform(3.5, 6.5) * (1 if ahead else -1)
        d = side * (street.lane + street.cycle / 2)
        start, stop = (-45.0, end) if ahead else (0.0, end + 60)
        for s in np.arange(start, stop, rng.uniform(12, 18)):
            if rng.random() < 0.9:
                riders.append(random_cyclist(rng, float(s + rng.uniform(-3, 3)), d, speed, 0.0 if ahead else pi))
    return riders


def _parked(rng: np.random.Generator, street: Street, end: float, crossings: list[float]) -> list[Vehicle]:
    vehicles = []
    for side in (-1, 1):
        if not street.parking[side > 0]:
            continue
        occupied = rng.uniform(0.3, 0.7)
        turned = (side != street.own_side()) != (rng.random() < 0.1)
        for s in np.arange(-BEHIND + rng.uniform(0, 6), end, 6.2):
            clear = all(not -6 < s - crossing < 8 for crossing in crossings)
            if clear and rng.random() < occupied:
                d = side * (street.kerb(side) - 1.1)
                vehicles.append(
                    random_vehicle(rng, float(s + rng.uniform(-0.3, 0.3)), d, 0.0, turned=turned, parked=True)
                )
    return vehicles


def _traffic(rng: np.random.Generator, street: Street, end: float) -> list[Vehicle]:
    """Vehicles ahead in the camera's lane, as fast as it is, and oncoming ones."""
    own = street.own_side()
    lane = own * street.lane / 2
    ahead = np.cumsum([rng.uniform(11, 30), rng.uniform(11, 25), rng.uniform(11, 25)])
    vehicles = [random_vehicle(rng, float(s), lane, SPEED, turned=False, parked=False) for s in ahead]
    speed = -rng.uniform(6, 11)
    for s in np.arange(rng.uniform(4, 30), end + 200, rng.uniform(16, 38)):
        vehicles.append(random_vehicle(rng, float(s + rng.uniform(-2, 2)), -lane, speed, turned=True, parked=False))
    return vehicles


def _rails(rng: np.random.Generator, street: Street, end: float) -> list[Fence]:
    """Guard rails between pavement and road."""
    rails: list[Fence] = []
    for side in (-1, 1):
        s = rng.uniform(0, 40)
        while s < end:
            length = rng.uniform(6, 16)
            rails += random_fences(rng, s, s + length, side * (street.kerb(side) + 0.25), ("railing",))
            s += length + rng.uniform(40, 100)
    return rails


def _near_end(wall: Wall) -> float:
    """Where along the street something begins: what begins further away is painted first."""
    if isinstance(wall, Tree):
        return wall.s
    # Garden fences stand before the house of the same plot, so they come a moment later.
    return wall.start[0] - 0.01 if isinstance(wall, Fence) else wall.start - 0.01 * isinstance(wall, Hedge)


def _far_end(wall: Wall) -> float:
    if isinstance(wall, Tree):
        return wall.s + wall.spread
    return wall.end[0] if isinstance(wall, Fence) else wall.end


def _cast(points: FloatArray, light: Light) -> FloatArray:
    """Convex hull of the points' shadows on the ground, (N, 2) world x and y."""
    x, y, z = light.sun
    fallen = points[:, :2] - points[:, 2:] * np.array([x, y]) / max(z, 0.2)
    hull: FloatArray = cv2.convexHull(fallen.astype(np.float32))[:, 0].astype(np.float64)
    return hull
