"""F1: distances between gradients and between features, for the methods that match them; empty until those arrive."""
