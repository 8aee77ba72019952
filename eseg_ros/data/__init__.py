"""Data sets on disk: where frames and labels lie, and how stored labels become class ids. No PyTorch, no ROS."""
