"""What an engine is on disk (`NAME.onnx` and its manifest `NAME.json`) and how one is made."""
