"""How the lung fields model is made: outlines, synthetic radiographs, training, measuring."""
