"""F0: the ground floor. Types, settings, randomness, devices, errors and files; imports nothing above itself."""
