"""Line charts as SVG files that a README can show: one panel, a legend, error bars. Nothing but the standard library."""

import html
import math

COLOURS = ("#1f6fb4", "#d1495b", "#2a9d5c", "#8a5fbf", "#c97b12", "#4f6d7a", "#b04f9b", "#7a7a00", "#008c95")
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 40, 52


def ticks(low, high, about=6):
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def label(value):
    return f"{value:.10g}"


def axis(values, fixed):
    """(low, high) of an axis: the ends given, else those of the values with a little room."""
    low, high = min(values), max(values)
    room = (high - low) * 0.04 or 0.5
    return (low - room if fixed[0] is None else fixed[0]), (high + room if fixed[1] is None else fixed[1])


def line_chart(title, x_label, y_label, series, x_range=(None, None), y_range=(None, None), diagonal=False):
    """SVG text. series: [(name, [(x, y, spread)])]; the bar of a point reaches from y - spread to y + spread."""
    points = [point for _, line in series for point in line]
    if not points:
        raise ValueError(f"chart '{title}' has no points")
    x_low, x_high = axis([x for x, _, _ in points], x_range)
    y_low, y_high = axis([y - s for _, y, s in points] + [y + s for _, y, s in points], y_range)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    bottom = HEIGHT + 18 * ((len(series) + 1) // 2)  # the legend stands below, two names a line

    def across(x):
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y):
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    def line(x1, y1, x2, y2, style):
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'

    def text(x, y, words, style=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(words)}</text>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" font-family="sans-serif" font-size="13" fill="#222">',
        f'<rect width="{WIDTH}" height="{bottom}" fill="#fff"/>',
        text(LEFT, 22, title, 'font-size="16" font-weight="bold"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, 'text-anchor="middle"'),
        text(16, middle, y_label, f'text-anchor="middle" transform="rotate(-90 16 {middle:.1f})"'),
    ]
    for x in ticks(x_low, x_high):
        out += [line(across(x), TOP, across(x), HEIGHT - BOTTOM, 'stroke="#e6e6e6"'),
                text(across(x), HEIGHT - BOTTOM + 18, label(x), 'text-anchor="middle"')]
    for y in ticks(y_low, y_high):
        out += [line(LEFT, down(y), WIDTH - RIGHT, down(y), 'stroke="#e6e6e6"'),
                text(LEFT - 8, down(y) + 4, label(y), 'text-anchor="end"')]
    if diagonal:
        low, high = max(x_low, y_low), min(x_high, y_high)
        out.append(line(across(low), down(low), across(high), down(high), 'stroke="#999" stroke-dasharray="5 4"'))
    for i, (name, values) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y, _ in values)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, spread in values:
            if spread > 0:
                out.append(line(across(x), down(y - spread), across(x), down(y + spread), f'stroke="{colour}" stroke-opacity="0.5"'))
            if len(values) <= 24:
                out.append(f'<circle cx="{across(x):.1f}" cy="{down(y):.1f}" r="3" fill="{colour}"/>')
        place_x, place_y = LEFT + (i % 2) * (WIDTH - LEFT) / 2, HEIGHT + 12 + 18 * (i // 2)
        out += [line(place_x, place_y - 4, place_x + 22, place_y - 4, f'stroke="{colour}" stroke-width="3"'),
                text(place_x + 28, place_y, name)]
    return "\n".join(out) + "\n</svg>\n"
