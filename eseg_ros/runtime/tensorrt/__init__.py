"""Engines on TensorRT: what its versions differ in, and the network that runs a plan."""
