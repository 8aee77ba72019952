"""Processes that surround the node in a benchmark: a camera, a listener, and the nodes that it is compared with."""

MEASURING = "measuring"
DONE = "done"
"""What the camera prints when its warm-up is over and when its last image is out."""

HEARD = "heard"
"""What the listener prints when the first image of its first topic has come."""
