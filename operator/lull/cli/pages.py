"""A page of figures and plots: one file, no script, nothing loaded, readable in dark and in light."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
.when, .note, figcaption { opacity: .75; font-size: .9rem; } figure { margin: 0; }
.lead { font-size: 1.1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .6rem; }
dl div { background: var(--soft); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .8rem; }
dt { font-size: .8rem; opacity: .75; } dd { margin: 0; font-size: 1.3rem; font-weight: 600; }
dd small { display: block; font-size: .8rem; font-weight: 400; opacity: .75; }
svg { width: 100%; height: auto; font-family: system-ui, sans-serif; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; opacity: .75; } th:first-child, td:first-child { text-align: left; }
"""


def page(title: str, body: str) -> str:
    """Return a whole page; `body` is HTML."""
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Lull: {escape(title)}</title>
<style>{_STYLE}</style>
{body}
</html>
"""


def tile(title: str, figure: str, more: str) -> str:
    """Return one figure with its name above and a word below."""
    return f"<div><dt>{escape(title)}</dt><dd>{escape(figure)}<small>{escape(more)}</small></dd></div>\n"


def section(title: str, svg: str, caption: str) -> str:
    """Return a plot under its title."""
    return f"<h2>{escape(title)}</h2>\n<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
