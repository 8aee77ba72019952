"""The ROS side: the segmentation node, its cameras, parameters and diagnostics; the bag player and the recorder.

The only part that imports rclpy.
"""
