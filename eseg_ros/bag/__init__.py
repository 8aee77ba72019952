"""Bag files without ROS: rosbags reads and writes them, so they can be made and scored on any machine."""
