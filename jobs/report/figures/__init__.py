"""Small SVG figures: data in, markup out.

Everything horizontal is in percent and everything vertical in pixels, so a figure is as wide as the place it stands in
and its text keeps its size, on a phone as on paper. Colours are CSS variables (`figures.css`), for light and dark.
Each figure is one `<svg role="img">` that says in words what it shows.
"""
