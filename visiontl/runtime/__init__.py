"""Exported models in use: photos in, the run's answers out, by NumPy, Pillow and onnxruntime alone. Imports neither
torch nor anything that does.

    from visiontl.runtime import load

    model = load("export/model.onnx")
    model.predict("photo.jpg")           a path, a PIL image or a NumPy array (H, W, 3) uint8 -> a dict
    python -m visiontl.runtime export/model.onnx photos/ --out answers
"""

from visiontl.runtime.model import Model, load

__all__ = ["Model", "load"]
