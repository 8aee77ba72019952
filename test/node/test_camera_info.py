"""The outputs' calibration, held to where a ray really falls: areas of the sensor are what pixels are."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from eseg_ros.node.camera_info import CameraInfoError, output_camera_info

SENSOR = (1280, 960)
K = np.array([[1000.0, 0.5, 650.0], [0, 1010.0, 470.0], [0, 0, 1]])
P = np.array([[900.0, 0, 640.0, -90.0], [0, 905.0, 480.0, 0], [0, 0, 1, 0]])
ROI = RegionOfInterest(x_offset=100, y_offset=60, width=800, height=600)


def camera_info(roi: RegionOfInterest | None = None, binning: tuple[int, int] = (0, 0)) -> CameraInfo:
    """A calibrated camera of SENSOR pixels."""
    info = CameraInfo(width=SENSOR[0], height=SENSOR[1], distortion_model="plumb_bob", d=[0.1, 0.0, 0.0, 0.0, 0.0])
    info.k, info.p, info.r = K.ravel(), P.ravel(), np.eye(3).ravel()
    info.binning_x, info.binning_y = binning
    info.roi = roi or RegionOfInterest()
    return info


def on_sensor(u: float, v: float, size: tuple[int, int], roi: RegionOfInterest | None) -> tuple[float, float]:
    """The middle of the sensor's area that an output's pixel shows."""
    left, top, width, height = (roi.x_offset, roi.y_offset, roi.width, roi.height) if roi else (0, 0, *SENSOR)
    return left + (u + 0.5) * width / size[0] - 0.5, top + (v + 0.5) * height / size[1] - 0.5


@pytest.mark.parametrize("roi", [None, ROI], ids=["whole sensor", "region of interest"])
@pytest.mark.parametrize("binning", [(0, 0), (1, 1), (2, 2), (4, 2)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_a_ray_falls_on_the_pixel_that_shows_its_place_on_the_sensor(
    roi: RegionOfInterest | None, binning: tuple[int, int], scale: float
) -> None:
    taken = (roi.width, roi.height) if roi else SENSOR
    size = tuple(round(pixels / max(1, by) * scale) for pixels, by in zip(taken, binning, strict=True))

    info = output_camera_info(camera_info(roi, binning), size)

    for u, v in ((0, 0), (size[0] - 1, size[1] - 1), (size[0] / 3, size[1] / 5)):
        ray = np.linalg.solve(K, [*on_sensor(u, v, size, roi), 1])
        np.testing.assert_allclose(info.k.reshape(3, 3) @ ray, [u, v, 1], atol=1e-9)


def test_the_projection_moves_as_the_camera_matrix_does() -> None:
    info = output_camera_info(camera_info(ROI), (400, 300))
    point = np.array([0.3, -0.2, 4.0, 1.0])
    u, v, depth = P @ point
    expected = [(u / depth - 100 + 0.5) / 2 - 0.5, (v / depth - 60 + 0.5) / 2 - 0.5]

    projected: npt.NDArray[np.float64] = info.p.reshape(3, 4) @ point

    np.testing.assert_allclose(projected[:2] / projected[2], expected)


def test_the_calibration_of_an_unscaled_image_stays_as_it_is() -> None:
    assert output_camera_info(camera_info(), SENSOR) == camera_info()


def test_the_output_is_a_camera_of_its_own_without_region_and_binning() -> None:
    info = output_camera_info(camera_info(ROI, (2, 2)), (200, 150))

    assert (info.width, info.height, info.binning_x, info.roi) == (200, 150, 0, RegionOfInterest())
    assert (info.distortion_model, list(info.d), list(info.r)) == ("plumb_bob", [0.1, 0, 0, 0, 0], [*np.eye(3).ravel()])


def test_the_cameras_own_message_is_left_alone() -> None:
    info = camera_info(ROI, (2, 2))

    output_camera_info(info, (200, 150))

    assert info == camera_info(ROI, (2, 2))


def test_an_uncalibrated_camera_stays_uncalibrated() -> None:
    info = output_camera_info(CameraInfo(width=640, height=480), (320, 240))

    assert (info.width, info.height) == (320, 240)
    assert not info.k.any()


def test_sizes_that_were_rounded_fit() -> None:
    roi = RegionOfInterest(width=641, height=479)

    assert output_camera_info(camera_info(roi, (2, 2)), (107, 80)).width == 107


@pytest.mark.parametrize(
    ("info", "size", "found"),
    [
        (camera_info(), (640, 360), "an image of 1280x960 pixels, but the output has 640x360"),
        (CameraInfo(), (640, 480), "an image of 0x0 pixels"),
        (camera_info(binning=(2, 1)), (640, 480), "an image of 640x960 pixels"),
    ],
    ids=["another shape", "no size", "binning one way that the image has not"],
)
def test_a_calibration_of_another_image_is_refused(info: CameraInfo, size: tuple[int, int], found: str) -> None:
    with pytest.raises(CameraInfoError, match=re.escape(found)):
        output_camera_info(info, size)
