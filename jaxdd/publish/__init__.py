"""F4: what is made of a finished distilled set: the picture, and image files."""
