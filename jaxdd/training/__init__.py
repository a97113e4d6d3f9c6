"""F2: network training on real or distilled data, shared by methods and evaluation."""
