"""F1: what methods that match gradients or features are made of: the distances, the momentum that classes share, the
selection of real images by k-means, and the perturbation of networks."""
