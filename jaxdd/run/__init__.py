"""F4: what owns time and the output folder. `loop.run` drives a procedure; `checkpoint.Storage` makes it resumable."""
