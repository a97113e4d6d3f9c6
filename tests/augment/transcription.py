"""The authors' operations, written out slowly in NumPy for one image `[height, width, channels]`: what tests trust."""

from __future__ import annotations

import numpy as np


def grid_sample(image: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Bilinear, zero outside: `theta` `[2, 2]` takes (x, y) of the result, in -1..1 from edge to edge, to the image."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x, y = theta @ np.array([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1])
            column, row = ((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2
            for r in (int(np.floor(row)), int(np.floor(row)) + 1):
                for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        result[i, j] += (1 - abs(row - r)) * (1 - abs(column - c)) * image[r, c]
    return result


def flip(image, u):
    return image[:, ::-1] if u < 0.5 else image


def brightness(image, u):
    return image + (u - 0.5)


def saturation(image, u):
    mean = image.mean(-1, keepdims=True)
    return (image - mean) * (2 * u) + mean


def contrast(image, u):
    return (image - image.mean()) * (u + 0.5) + image.mean()


def color(image, u_brightness, u_saturation, u_contrast):
    return contrast(saturation(brightness(image, u_brightness), u_saturation), u_contrast)


def crop(image, rows, columns):
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for r in range(height):
        for c in range(width):
            if 0 <= r + rows < height and 0 <= c + columns < width:
                result[r, c] = image[r + rows, c + columns]
    return result


def translate(image, columns):
    return crop(image, 0, columns)


def scale(image, u_rows, u_columns):
    down, across = (u * (1.2 - 1 / 1.2) + 1 / 1.2 for u in (u_rows, u_columns))
    return grid_sample(image, np.array([[across, 0], [0, down]]))


def rotate(image, u):
    angle = (u - 0.5) * 2 * np.deg2rad(15)
    return grid_sample(image, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


def cutout(image, rows, columns):
    height, width, _ = image.shape
    tall, wide = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
    result = image.copy()
    for r in range(tall):
        for c in range(wide):
            row, column = rows + r - tall // 2, columns + c - wide // 2
            result[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] = 0
    return result
