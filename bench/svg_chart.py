"""A line chart with marks as an SVG, written with the standard library alone.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; every series has
a shape of mark of its own too, so that a print in grey can be read.
"""

import math
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "triangle_down")
WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 78, 230, 62, 66  # margins; the legend is in the right one
TICKS_WANTED = 6


@dataclass
class Point:
    x: float
    y: float
    low: float = 0  # of the runs; a whisker is drawn where high is above low
    high: float = 0
    hollow: bool = False  # its mark; the note of the chart says what that means


@dataclass
class Series:
    name: str
    points: list = field(default_factory=list)
    faint: bool = False  # what the others are compared with: grey and dashed


@dataclass
class Axis:
    label: str  # with the unit
    log: bool = False


@dataclass
class Chart:
    title: str
    note: str
    x: Axis
    y: Axis
    series: list


def short_number(value):
    """12000000 -> 12M, 1500 -> 1.5k, 0.25 -> 0.25"""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def linear_ticks(high):
    """From 0, at 1, 2 or 5 times a power of ten."""
    rough = high / TICKS_WANTED
    power = 10 ** math.floor(math.log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough)
    return [i * step for i in range(math.ceil(high / step - 1e-9) + 1)]


def log_ticks(low, high):
    """Powers of ten that enclose the values, with 2 and 5 between them where that is not too many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    times = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [t * 10.0 ** power for power in range(first, last + 1) for t in times]
    below = [tick for tick in ticks if tick <= low * (1 + 1e-9)]
    above = [tick for tick in ticks if tick >= high * (1 - 1e-9)]
    low_tick = below[-1] if below else ticks[0]
    high_tick = above[0] if above else ticks[-1]
    kept = [tick for tick in ticks if low_tick <= tick <= high_tick]
    return kept if len(kept) > 1 else [kept[0], kept[0] * 10]


class Scale:
    """From values to pixels."""

    def __init__(self, axis, values, start, end):
        self.log = axis.log and min(values) > 0
        low, high = min(values), max(values)
        self.ticks = log_ticks(low, high) if self.log else linear_ticks(high if high > 0 else 1)
        self.low, self.high = self.place(self.ticks[0]), self.place(self.ticks[-1])
        self.start, self.end = start, end

    def place(self, value):
        return math.log10(value) if self.log else value

    def pixel(self, value):
        share = (self.place(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def mark(shape, x, y, colour, tip, hollow=False):
    """One mark of a point; `tip` is shown by a browser that is pointed at it."""
    paths = {
        "square": "M-4-4h8v8h-8z",
        "triangle": "M0-5.2L4.8 3.6H-4.8z",
        "diamond": "M0-5.4L5 0 0 5.4-5 0z",
        "cross": "M-4-4L4 4M-4 4L4-4",
        "triangle_down": "M0 5.2L4.8-3.6H-4.8z",
    }
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    kind = ' class="mark"' if tip else ""
    fill = "#ffffff" if hollow else colour
    stroke = f' stroke="{colour}" stroke-width="2"' if hollow or shape == "cross" else ""
    if shape == "circle":
        return (f'<circle{kind} cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{fill}"{stroke}>{inside}'
                '</circle>')
    return (f'<path{kind} d="{paths[shape]}" transform="translate({x:.1f} {y:.1f})" '
            f'fill="{fill}"{stroke}>{inside}</path>')


def text(x, y, content, **attributes):
    more = "".join(f" {name.replace('_', '-')}={quoteattr(str(value))}"
                   for name, value in attributes.items())
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(content)}</text>'


def line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def draw_axes(chart, x_scale, y_scale):
    left, right, bottom = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM
    out = []
    for tick in y_scale.ticks:
        y = y_scale.pixel(tick)
        out.append(line(left, y, right, y, 'stroke="#e4e4e4"'))
        out.append(text(left - 8, y + 4, short_number(tick), text_anchor="end"))
    for tick in x_scale.ticks:
        x = x_scale.pixel(tick)
        out.append(line(x, TOP, x, bottom, 'stroke="#f0f0f0"'))
        out.append(line(x, bottom, x, bottom + 5, 'stroke="#666"'))
        out.append(text(x, bottom + 19, short_number(tick), text_anchor="middle"))
    out.append(line(left, bottom, right, bottom, 'stroke="#666"'))
    out.append(line(left, TOP, left, bottom, 'stroke="#666"'))
    def label(axis, scale):
        return axis.label + (", logarithmic" if scale.log else "")

    middle = (TOP + bottom) / 2
    out.append(text((left + right) / 2, HEIGHT - 22, label(chart.x, x_scale),
                    text_anchor="middle"))
    out.append(text(20, middle, label(chart.y, y_scale), text_anchor="middle",
                    transform=f"rotate(-90 20 {middle:.1f})"))
    return out


def draw_series(series, style, x_scale, y_scale):
    colour, shape = style
    points = sorted(series.points, key=lambda point: point.x)
    places = [(x_scale.pixel(point.x), y_scale.pixel(point.y)) for point in points]
    dash = ' stroke-dasharray="5 4"' if series.faint else ""
    track = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    out = [f'<g class="series"><title>{escape(series.name)}</title>',
           f'<polyline points="{track}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>']
    for point, (x, y) in zip(points, places):
        if point.high > point.low > 0:
            out.append(line(x, y_scale.pixel(point.low), x, y_scale.pixel(point.high),
                            f'class="whisker" stroke="{colour}" stroke-width="1.2"'))
        tip = f"{series.name}: {short_number(point.x)}, {short_number(point.y)}"
        out.append(mark(shape, x, y, colour, tip, point.hollow))
    return out + ["</g>"]


def draw_legend(chart, styles):
    x, y = WIDTH - RIGHT + 22, TOP + 10
    out = []
    for series, (colour, shape) in zip(chart.series, styles):
        dash = ' stroke-dasharray="5 4"' if series.faint else ""
        out.append(line(x, y - 4, x + 26, y - 4, f'stroke="{colour}" stroke-width="1.8"{dash}'))
        out.append(mark(shape, x + 13, y - 4, colour, ""))
        out.append(text(x + 34, y, series.name))
        y += 22
    return out


def make_styles(series):
    """(colour, shape) of each; the faint ones are grey."""
    styles, bold = [], 0
    for each in series:
        colour = "#888888" if each.faint else COLOURS[bold % len(COLOURS)]
        styles.append((colour, SHAPES[len(styles) % len(SHAPES)]))
        bold += not each.faint
    return styles


def draw(chart):
    """The SVG as text."""
    points = [point for series in chart.series for point in series.points]
    heights = [value for point in points
               for value in (point.y, point.low, point.high) if value > 0] or [0]
    x_scale = Scale(chart.x, [point.x for point in points], LEFT, WIDTH - RIGHT)
    y_scale = Scale(chart.y, heights, HEIGHT - BOTTOM, TOP)
    styles = make_styles(chart.series)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
        f"<title>{escape(chart.title)}</title>",
        f"<desc>{escape(chart.note)}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 26, chart.title, font_size=16, font_weight="bold"),
        text(LEFT, 46, chart.note, fill="#666"),
    ]
    parts += draw_axes(chart, x_scale, y_scale)
    for series, style in zip(chart.series, styles):
        parts += draw_series(series, style, x_scale, y_scale)
    parts += draw_legend(chart, styles)
    return "\n".join(parts + ["</svg>", ""])
