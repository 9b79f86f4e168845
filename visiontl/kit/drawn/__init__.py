"""How the sample world of `visiontl.kit.world` is drawn."""
