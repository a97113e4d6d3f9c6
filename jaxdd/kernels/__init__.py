"""F1: linearised networks, their empirical neural tangent kernel, ridge solves and the meta-gradient through them;
and the closed kernels of infinitely wide networks."""
