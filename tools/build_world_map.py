"""Builds survey_jax/data/world.json, the outlines of countries for the report's map.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python tools/build_world_map.py package

Source: Natural Earth (public domain), 1:110m, as packed in world-atlas 2.0.2 (licence ISC, kept beside the data).
Territories too small for that scale have a point, the middle of their largest part at 1:50m. Points are projected by
Equal Earth (Savric, Patterson & Jenny 2018, https://doi.org/10.1080/13658816.2018.1504949), so that areas can be
compared, and rounded to whole units of a map 1,000 units wide. Without Antarctica.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycountry

MAP = Path(__file__).parents[1] / "survey_jax" / "data" / "world.json"
WIDTH = 1000
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)
SOUTH = -56.0  # the map ends below Tierra del Fuego


def main(folder: str) -> None:
    coarse = _territories(Path(folder) / "countries-110m.json")
    fine = _territories(Path(folder) / "countries-50m.json")
    right, top = project(np.array([[180.0, 0.0], [0.0, 83.7]])).max(0)
    bottom = project(np.array([[0.0, SOUTH]]))[0, 1]
    scale = WIDTH / (2 * right)

    def place(ring: np.ndarray) -> np.ndarray:
        return np.round((project(ring) * [1, -1] + [right, top]) * scale).astype(int)

    shapes = {code: "".join(filter(None, map(_path, map(place, rings)))) for code, rings in coarse.items()}
    shapes = {code: path for code, path in sorted(shapes.items()) if path and code != "ATA"}
    points = {code: place(max(rings, key=_area).mean(0, keepdims=True))[0].tolist() for code, rings in fine.items()}
    points = {code: point for code, point in sorted(points.items()) if code not in {*shapes, "ATA"} and len(code) == 3}
    world = {"width": WIDTH, "height": round((top - bottom) * scale), "shapes": shapes, "points": points}
    MAP.write_text(json.dumps(world, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{MAP.name}: {len(shapes)} shapes, {len(points)} points, {MAP.stat().st_size:,} bytes")


def project(degrees: np.ndarray) -> np.ndarray:
    """Longitude and latitude, Float[n 2], to Equal Earth."""
    longitude, latitude = np.radians(degrees).T
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(latitude))
    a, b, c, d = EQUAL_EARTH
    slope = 9 * d * t**8 + 7 * c * t**6 + 3 * b * t**2 + a
    return np.stack([2 * np.sqrt(3) * longitude * np.cos(t) / (3 * slope), t * (d * t**8 + c * t**6 + b * t**2 + a)], 1)


def _territories(file: Path) -> dict[str, list[np.ndarray]]:
    """ISO 3166-1 alpha-3 (else the source's name) -> rings of longitude and latitude."""
    topology = json.loads(file.read_text(encoding="utf-8"))
    scale, shift = (np.array(topology["transform"][k]) for k in ("scale", "translate"))
    arcs = [np.cumsum(arc, 0) * scale + shift for arc in topology["arcs"]]
    found: dict[str, list[np.ndarray]] = {}
    for geometry in topology["objects"]["countries"]["geometries"]:
        kind = geometry.get("type")
        polygons = {"Polygon": [geometry.get("arcs")], "MultiPolygon": geometry.get("arcs")}.get(kind, [])
        rings = [part for polygon in polygons for ring in polygon for part in _cut(_ring(arcs, ring))]
        found.setdefault(_code(geometry), []).extend(rings)
    return found


def _code(geometry: dict[str, Any]) -> str:
    name = geometry["properties"]["name"]
    country = pycountry.countries.get(numeric=str(geometry.get("id", "")).zfill(3))
    return "XKX" if name == "Kosovo" else country.alpha_3 if country else name


def _ring(arcs: list[np.ndarray], numbers: list[int]) -> np.ndarray:
    """Arcs joined; ~i is arc i backwards; the last point of one is the first of the next."""
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in numbers]
    return np.concatenate([parts[0], *(part[1:] for part in parts[1:])])


def _cut(ring: np.ndarray) -> list[np.ndarray]:
    """The parts of a ring on either side of the 180th meridian, on the side of the map where they belong."""
    unrolled = ring.copy()
    unrolled[:, 0] = np.unwrap(ring[:, 0], period=360)
    parts = []
    for turn in (-360, 0, 360):
        part = unrolled + np.array([turn, 0])
        for side in (-1, 1):
            part = _beside(part, side)
        if len(part) > 2:
            parts.append(part)
    return parts


def _beside(ring: np.ndarray, side: int) -> np.ndarray:
    """What of a closed ring has side * longitude <= 180 (Sutherland & Hodgman 1974)."""
    over = side * ring[:, 0] - 180
    kept = []
    for (a, over_a), (b, over_b) in zip(
        zip(ring, over, strict=True), zip(ring[1:], over[1:], strict=True), strict=False
    ):
        kept += [a] if over_a <= 0 else []
        kept += [a + (b - a) * over_a / (over_a - over_b)] if over_a * over_b < 0 else []
    return np.array([*kept, kept[0]]) if kept else np.empty((0, 2))


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])))


def _path(points: np.ndarray) -> str:
    """A closed SVG path, by relative steps; "" if it has no area left."""
    kept = points[np.append(True, (np.diff(points, axis=0) != 0).any(1))]
    steps = np.diff(kept, axis=0)[:-1]
    if len(steps) < 2:
        return ""
    return f"M{kept[0, 0]} {kept[0, 1]}l" + " ".join(f"{x} {y}" for x, y in steps.tolist()) + "z"


if __name__ == "__main__":
    main(sys.argv[1])
