"""Lines of text drawn as a camera would see them: dark letters on a light ground, a little rotated, blurred and noisy."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

MARGIN_X, MARGIN_Y = 12, 8  # around the letters


def line(text: str, random: np.random.Generator, sizes: tuple[int, int]) -> Image.Image:
    """The picture of ``text`` in letters of ``sizes`` (from, below) pixels."""
    size = int(random.integers(*sizes))
    font = ImageFont.load_default(size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    ground, ink = (tuple(int(v) for v in random.integers(low, high, 3)) for low, high in ((190, 256), (0, 90)))
    drawn = Image.new("RGB", (right - left + 2 * MARGIN_X, bottom - top + 2 * MARGIN_Y), ground)
    ImageDraw.Draw(drawn).text((MARGIN_X - left, MARGIN_Y - top), text, fill=ink, font=font)
    drawn = drawn.rotate(float(random.uniform(-1.2, 1.2)), Image.Resampling.BICUBIC, fillcolor=ground)
    drawn = drawn.filter(ImageFilter.GaussianBlur(float(random.uniform(0.4, 1.8))))
    noise = random.normal(0, random.uniform(4, 22), (drawn.height, drawn.width, 1))
    return Image.fromarray(np.clip(np.asarray(drawn, np.float32) + noise, 0, 255).astype(np.uint8))
