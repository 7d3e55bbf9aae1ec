"""A world map of numbers by country, as SVG. The outlines are data/world.json, made by tools/build_world_map.py."""

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
from markupsafe import Markup, escape

COLOURS = ("#fff3c4", "#fed98e", "#fe9929", "#d95f0e", "#8c2d04")  # light to dark, told apart in print and colour-blind
NO_DATA = "#e4e4e4"


@functools.cache
def _world() -> dict[str, Any]:
    text = (resources.files("survey_jax") / "data" / "world.json").read_text(encoding="utf-8")
    world: dict[str, Any] = json.loads(text)
    return world


def outlines() -> Markup:
    """The countries' shapes, to stand once in a page; every map refers to them."""
    shapes = (f'<path id="land-{number}" d="{path}"/>' for number, path in enumerate(_world()["shapes"].values()))
    return Markup(f'<svg class="outlines" aria-hidden="true"><defs>{"".join(shapes)}</defs></svg>')


def classes(values: Mapping[str, float]) -> list[float]:
    """Edges of the colours' classes, which are of one round width and hold all values."""
    least, most = min(values.values()), max(values.values())
    for step in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.2):
        start = np.floor(least / step) * step
        if start + step * len(COLOURS) >= most:
            break
    return [round(float(start + step * number), 9) for number in range(len(COLOURS) + 1)]


def world_map(values: Mapping[str, float], names: Mapping[str, str], title: str) -> Markup:
    """Countries coloured by value, the larger the darker.

    Args:
      values: ISO 3166-1 alpha-3 code -> share, at least 0; countries that the map does not have are not drawn. Shown
        times 100.
      names: code -> the country's name.
    """
    world, edges = _world(), classes(values)
    parts, dots = [], []
    for number, code in enumerate(world["shapes"]):
        tip = _tip(code, values, names)
        parts.append(f'<use href="#land-{number}" fill="{_colour(values.get(code), edges)}">{tip}</use>')
    for code, (x, y) in world["points"].items():
        if code in values:
            fill, tip = _colour(values[code], edges), _tip(code, values, names)
            dots.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{fill}" stroke="#333">{tip}</circle>')
    box = f"0 0 {world['width']} {world['height']}"
    land = f'<g stroke="#777" stroke-width="0.5">{"".join(parts)}</g>{"".join(dots)}'
    return Markup(f'<svg class="map" role="img" aria-label="{escape(title)}" viewBox="{box}">{land}</svg>')


def drawn(code: str) -> bool:
    """Whether the map has this country."""
    return code in _world()["shapes"] or code in _world()["points"]


def _colour(value: float | None, edges: list[float]) -> str:
    return NO_DATA if value is None else COLOURS[int(np.searchsorted(edges[1:-1], value, side="right"))]


def _tip(code: str, values: Mapping[str, float], names: Mapping[str, str]) -> str:
    return f"<title>{escape(names[code])}: {100 * values[code]:.1f}</title>" if code in values else ""
