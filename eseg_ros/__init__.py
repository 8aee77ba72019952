"""Real-time semantic segmentation for ROS 2: ESeg-Lite engines, the node that runs them, the trainer that makes them."""

__version__ = "0.1.0"
