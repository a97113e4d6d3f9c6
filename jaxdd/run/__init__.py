"""F4: what owns time and the output folder. `loop.run` drives a procedure; `storage` makes it resumable."""
