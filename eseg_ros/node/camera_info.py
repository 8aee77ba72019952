"""A camera's calibration as that of the node's outputs."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from eseg_ros.errors import EsegError


class CameraInfoError(EsegError):
    """A calibration is not that of the images beside it."""


def output_camera_info(info: CameraInfo, size: tuple[int, int]) -> CameraInfo:
    """The calibration of an output as if a camera had taken it: no region of interest, no binning.

    A pixel's center has whole coordinates (REP-104, OpenCV), so its left edge lies half a pixel before. Edges are what
    cropping, binning and scaling keep: `u' = (u - x_offset + 1/2) * k - 1/2`, the same for K's and P's principal point.
    D and R hold as they are, because they work on rays.

    Args:
        info: the camera's. K and P are those of the whole sensor, as CameraInfo.msg defines.
        size: (width, height) of the output. It may be scaled, by the node or by a driver that does not tell.

    Raises:
        CameraInfoError: `info` describes an image of another shape.
    """
    roi, binning = info.roi, (max(1, info.binning_x), max(1, info.binning_y))
    taken = (roi.width or info.width, roi.height or info.height)  # pixels of the sensor
    image = (taken[0] // binning[0], taken[1] // binning[1])
    # Half a pixel more or less each way is rounding.
    if 0 in image or 2 * abs(size[0] * image[1] - size[1] * image[0]) > sum(image):
        raise CameraInfoError(
            f"the camera_info describes an image of {image[0]}x{image[1]} pixels, but the output has "
            f"{size[0]}x{size[1]}, which is no scaled form of it. Calibrate the camera at the resolution that it "
            "publishes, or have its driver fill in roi and binning"
        )
    factor = np.array([size[0] / (image[0] * binning[0]), size[1] / (image[1] * binning[1])])
    offset = (0.5 - np.array([roi.x_offset, roi.y_offset])) * factor - 0.5
    change = np.eye(3)
    change[0, 0], change[1, 1] = factor
    change[:2, 2] = offset

    output = deepcopy(info)
    output.width, output.height = size
    output.k = (change @ np.reshape(info.k, (3, 3))).ravel()
    output.p = (change @ np.reshape(info.p, (3, 4))).ravel()
    output.binning_x = output.binning_y = 0
    output.roi = RegionOfInterest()
    return output
