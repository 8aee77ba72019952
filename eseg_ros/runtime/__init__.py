"""How an engine runs: decoding, preprocessing, inference, postprocessing and the pipeline that overlaps them.

Knows neither ROS nor PyTorch.
"""

RUNTIMES = ("auto", "openvino", "onnxruntime", "tensorrt", "rtx")
"""What `select.create_runtime` may be asked for: an inference library, or the fastest that is installed."""
