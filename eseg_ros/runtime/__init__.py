"""How an engine runs: decoding, preprocessing, inference, postprocessing and the pipeline that overlaps them.

Knows neither ROS nor PyTorch.
"""
