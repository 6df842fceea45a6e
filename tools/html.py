"""A Sphinx extension: what the pages of the book have beyond Jupyter Book.

MathJax from an installed package, so that no page asks another host; a link to each
chapter's notebook; repairs where the theme or docutils write HTML that screen readers
or phones stumble over.
"""

import re
import shutil
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx.util.osutil import relative_uri

from tools import colab

MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
# The theme's script lets a keyboard scroll what has this class and is too wide.
SCROLLS = "pst-scrollable-table-container"
NOTEBOOK_LINK = """
<p class="notebook-link"><a href="{}" download>Open in Colab or Jupyter:
download this chapter as one self-contained notebook</a></p>
"""
REPAIRS = [
    # an empty corner of a table heads nothing
    (r"<th\b([^>]*)>(?:\s|&nbsp;|\xa0|</?p>)*</th>", r"<td\1></td>"),
    # docutils' role for an entry of a bibliography is deprecated
    (r'role="doc-biblioentry"', 'role="listitem"'),
    # a folded cell is named by the words it shows
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
]


def copy_mathjax(app):
    """Put the parts of MathJax that pages load where mathjax_path points."""
    package = metadata.distribution("sphinx-mathjax-offline")
    source = Path(package.locate_file("sphinx-mathjax-offline/static/mathjax"))
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            shutil.copy2(source / part, target / part)


def mark(app, doctree):
    """Name folded solutions, and let wide formulas scroll by keyboard."""
    for cell in doctree.findall(nodes.container):
        if "tag_solution" in cell["classes"]:
            cell["prompt_show"], cell["prompt_hide"] = "Show solution", "Hide solution"
    for formula in [*doctree.findall(nodes.math), *doctree.findall(nodes.math_block)]:
        formula["classes"].append(SCROLLS)


def repaired(body):
    """The HTML of a page's body without the known faults."""
    for pattern, repair in REPAIRS:
        body = re.sub(pattern, repair, body)
    return body


def finish_page(app, pagename, templatename, context, doctree):
    """Repair the body, link the notebook below the title, drop unused scripts."""
    if doctree is not None:
        body, source = repaired(context["body"]), Path(app.env.doc2path(pagename))
        if source.suffix == ".ipynb":
            page = app.builder.get_target_uri(pagename)
            link = relative_uri(page, f"colab/{colab.file_name(source)}")
            body = body.replace("</h1>", "</h1>" + NOTEBOOK_LINK.format(link), 1)
        context["body"] = body
    if not app.env.get_domain("math").data["has_equations"].get(pagename):
        # Sphinx loads MathJax also where only a page below in the contents has maths
        scripts = context["script_files"]
        context["script_files"] = [s for s in scripts if not _is_mathjax(s)]


def _is_mathjax(script):
    return "mathjax" in f"{script.filename} {script.attributes.get('body')}".lower()


def setup(app):
    app.connect("builder-inited", copy_mathjax)
    app.connect("doctree-read", mark)
    # after Sphinx's own, which adds MathJax
    app.connect("html-page-context", finish_page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
