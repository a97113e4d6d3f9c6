"""F1: linearised networks, their empirical neural tangent kernel, ridge solves and the meta-gradient through them."""
