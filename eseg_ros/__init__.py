"""Real-time semantic segmentation for ROS 2: ESeg-Lite engines, the node that runs them, their trainer."""

__version__ = "0.1.0"
