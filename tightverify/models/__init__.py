"""From what the user brings (torch modules, ONNX files) to a graph."""
